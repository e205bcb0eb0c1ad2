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
    """
    Ask the GitLab at *origin* about its token. Never raises because of the network or the GitLab.

    A token that is not known to be *is_oauth* is a personal one, or an OAuth token that nothing refreshes: GitLab knows
    each at one endpoint only, so it is dead if neither knows it.
    """
    if not is_oauth:
        state = _ask(f"{origin}/api/v4/personal_access_tokens/self", ("Private-Token", access_token))
        if state is not TokenState.DEAD:
            return state
    return _ask(f"{origin}/oauth/token/info", ("Authorization", f"Bearer {access_token}"))


def _ask(url: str, token: tuple[str, str]) -> TokenState:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", token[0]: token[1]}
    timeout = settings().http_timeout.total_seconds()
    try:
        with open_client(timeout) as client, client.stream("GET", url, headers=headers) as response:
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
