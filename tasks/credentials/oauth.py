"""
The call of GitLab's refresh grant. Its answer tells whether the refresh token was used.

A refresh token works once. If it is sent twice, GitLab revokes the whole family of tokens, and the account's owner
must authorize again. So a token is never sent again after an answer that was lost or cannot be read.
"""

import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from time import monotonic
from typing import Any

import httpx

from persistence.db.json_bounds import parse_json
from persistence.schema.reasons import CredentialError
from persistence.setting_types import OAuthProvider
from persistence.settings import settings


@dataclass(frozen=True)
class Renewed:
    """A new pair of tokens."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    lifetime: timedelta | None


@dataclass(frozen=True)
class Refused:
    """The token was used, or may have been: the owner must authorize again."""

    error: CredentialError
    detail: str


@dataclass(frozen=True)
class NotProcessed:
    """The provider has certainly not used the token: it may be sent again later."""

    error: CredentialError
    detail: str


_LONGEST_S = 1e9
_MAX_BODY_BYTES = 2**16
_MAX_BODY_VALUES = 1_000

Answer = Renewed | Refused | NotProcessed

_NOT_PROCESSED = frozenset({408, 425, 429, 503})


def refresh(instance: str, provider: OAuthProvider, refresh_token: str) -> Answer:
    """Ask the GitLab at *instance* for a new pair. Never raises because of the network or the provider."""
    form = {
        "grant_type": "refresh_token",
        "refresh_token": refresh_token,
        "client_id": provider.client_id,
        "client_secret": provider.client_secret.get_secret_value(),
    }
    if provider.redirect_uri:
        form["redirect_uri"] = provider.redirect_uri
    # Uncompressed: a compressed body may expand without limit.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    timeout = settings().http_timeout.total_seconds()
    try:
        with (
            open_client(timeout) as client,
            client.stream("POST", f"{instance}/oauth/token", data=form, headers=headers) as response,
        ):
            return _read(response, monotonic() + timeout)
    except _NotOpenedError as error:
        return NotProcessed(CredentialError.NETWORK_ERROR, str(error))
    except (httpx.InvalidURL, UnicodeError):  # also what a resolver raises for an impossible host
        return NotProcessed(
            CredentialError.PROVIDER_ERROR, "its URL cannot be called: check CRAWLYARD_OAUTH_PROVIDERS"
        )
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        return NotProcessed(CredentialError.NETWORK_ERROR, type(error).__name__)
    except httpx.HTTPError as error:
        return Refused(CredentialError.NETWORK_ERROR, f"{type(error).__name__}: the answer was lost")


class _NotOpenedError(httpx.HTTPError):
    """No client could be opened, so nothing was sent."""


def open_client(timeout: float) -> httpx.Client:
    """
    Open a client without the proxies and the .netrc of the environment: tokens must not pass through them.

    Raises an HTTPError if this machine lacks a descriptor or memory.
    """
    try:
        return httpx.Client(timeout=timeout, trust_env=False, verify=_ssl_context())
    except (OSError, MemoryError) as error:
        raise _NotOpenedError(f"{type(error).__name__}: no request could be made") from None


@cache
def _ssl_context() -> ssl.SSLContext:
    """
    Trust the authorities of certifi and of the system, where operators add those of their own GitLab.

    Read once in a process, since that takes 37 ms of CPU: authorities that are added later need a restart.
    """
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


def _read(response: httpx.Response, deadline: float) -> Answer:
    if response.status_code in _NOT_PROCESSED:
        return NotProcessed(CredentialError.PROVIDER_ERROR, f"HTTP {response.status_code}")
    body = read_json(read_body(response, deadline))
    match response.status_code:
        case 200 if token := _token(body, "access_token"):
            return Renewed(token, _token(body, "refresh_token"), _lifetime(body))
        case 400 | 401 if (code := body.get("error")) == "invalid_grant":
            return Refused(CredentialError.OAUTH2_REVOKED, code)
        case 400 | 401 if (code := body.get("error")) in ("invalid_client", "unauthorized_client"):
            return NotProcessed(CredentialError.PROVIDER_ERROR, f"{code}: check CRAWLYARD_OAUTH_PROVIDERS")
        case status:
            return Refused(CredentialError.PROVIDER_ERROR, f"HTTP {status} without a new token")


def read_body(response: httpx.Response, deadline: float) -> bytes:
    """The body; empty if it is too large for such an answer. Raises ReadTimeout if it takes too long."""
    body = b""
    for part in response.iter_raw():
        body += part
        if len(body) > _MAX_BODY_BYTES:
            return b""
        if monotonic() > deadline:
            raise httpx.ReadTimeout("the body is too slow")
    return body


def read_json(text: bytes) -> dict[str, Any]:
    """The JSON object; empty if it is none."""
    try:
        body = parse_json(text, values=_MAX_BODY_VALUES)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _token(body: dict[str, Any], name: str) -> str | None:
    """The token, if it consists of printable ASCII characters (RFC 6749, appendix A)."""
    token = body.get(name)
    return token if isinstance(token, str) and token.isascii() and token.isprintable() and token else None


def _lifetime(body: dict[str, Any]) -> timedelta | None:
    seconds = body.get("expires_in")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < _LONGEST_S:
        return None
    return timedelta(seconds=seconds)
