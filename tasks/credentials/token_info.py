"""
The question to a GitLab whether an access token works. It uses nothing up, so it may be asked again.

Only a GitLab's own clear answer counts. Whatever else comes, as from a proxy in between, tells nothing.
"""

from enum import Enum
from time import monotonic
from typing import Any

import httpx

from persistence.settings import settings
from tasks.credentials.oauth import open_client, read_body, read_json


class TokenState(Enum):
    """What a GitLab says about a token."""

    DEAD = "dead"
    ALIVE = "alive"
    UNKNOWN = "unknown"


def check_token(origin: str, access_token: str, *, is_oauth: bool) -> TokenState:
    """Ask the GitLab at *origin* about its token. Never raises because of the network or the GitLab."""
    path = "/oauth/token/info" if is_oauth else "/api/v4/personal_access_tokens/self"
    name, value = ("Authorization", f"Bearer {access_token}") if is_oauth else ("Private-Token", access_token)
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", name: value}
    timeout = settings().http_timeout.total_seconds()
    try:
        with open_client(timeout) as client, client.stream("GET", origin + path, headers=headers) as response:
            body = read_json(read_body(response, monotonic() + timeout))
            return _state(response.status_code, body)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError):  # also a token that is no header
        return TokenState.UNKNOWN


def _state(status: int, body: dict[str, Any]) -> TokenState:
    match status:
        case 401 if body.keys() & {"error", "message"}:
            return TokenState.DEAD
        case 200 if body.get("active") is False or body.get("revoked") is True:
            return TokenState.DEAD
        case 200 if body.keys() & {"resource_owner_id", "user_id"}:
            return TokenState.ALIVE
        case _:
            return TokenState.UNKNOWN
