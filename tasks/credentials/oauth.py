"""
One call: GitLab's refresh grant. What came of it is told so that the caller knows whether the token was used.

A refresh token works once. If it comes twice, GitLab revokes the whole family, and somebody must
authorize anew: so an answer that was lost, or that cannot be read, is never asked for again.
"""

import json
import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import Any

import httpx

from persistence.schema.reasons import CredentialError
from persistence.setting_types import OAuthProvider
from persistence.settings import settings


@dataclass(frozen=True)
class Renewed:
    """A new pair."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    lifetime: timedelta | None


@dataclass(frozen=True)
class Refused:
    """The token is used up, or may be: somebody must authorize anew."""

    error: CredentialError
    detail: str


@dataclass(frozen=True)
class Away:
    """The provider has surely not used the token: it may be asked again later."""

    error: CredentialError
    detail: str


_LONGEST_S = 1e9
_MAX_BODY_BYTES = 2**16

Answer = Renewed | Refused | Away

_NOT_PROCESSED = frozenset({408, 425, 429, 503})


def refresh(instance: str, provider: OAuthProvider, refresh_token: str) -> Answer:
    """Ask the GitLab at *instance* for a new pair. Never raises for what the network or the provider does."""
    form = {
        "grant_type": "refresh_token",
        "refresh_token": refresh_token,
        "client_id": provider.client_id,
        "client_secret": provider.client_secret.get_secret_value(),
    }
    if provider.redirect_uri:
        form["redirect_uri"] = provider.redirect_uri
    # As it is: what is compressed may be large beyond all measure.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    timeout = settings().http_timeout.total_seconds()
    try:
        with (
            # Of the environment's proxies and .netrc nothing is wanted here.
            httpx.Client(timeout=timeout, trust_env=False, verify=_ssl_context()) as client,
            client.stream("POST", f"{instance}/oauth/token", data=form, headers=headers) as response,
        ):
            return _read(response, monotonic() + timeout)
    except (httpx.InvalidURL, UnicodeError):  # what a resolver makes of a host that is none
        return Away(
            CredentialError.PROVIDER_ERROR, "its URL cannot be called: check CRAWLYARD_OAUTH_PROVIDERS"
        )
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        return Away(CredentialError.NETWORK_ERROR, type(error).__name__)
    except httpx.HTTPError as error:
        return Refused(CredentialError.NETWORK_ERROR, f"{type(error).__name__}: the answer was lost")


def _ssl_context() -> ssl.SSLContext:
    """The authorities of certifi and of the system, to which who runs a GitLab of his own has added his."""
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


def _read(response: httpx.Response, deadline: float) -> Answer:
    if response.status_code in _NOT_PROCESSED:
        return Away(CredentialError.PROVIDER_ERROR, f"HTTP {response.status_code}")
    body = _json(_body(response, deadline))
    match response.status_code:
        case 200 if token := _token(body, "access_token"):
            return Renewed(token, _token(body, "refresh_token"), _lifetime(body))
        case 400 | 401 if (code := body.get("error")) == "invalid_grant":
            return Refused(CredentialError.OAUTH2_REVOKED, code)
        case 400 | 401 if (code := body.get("error")) in ("invalid_client", "unauthorized_client"):
            return Away(CredentialError.PROVIDER_ERROR, f"{code}: check CRAWLYARD_OAUTH_PROVIDERS")
        case status:
            return Refused(CredentialError.PROVIDER_ERROR, f"HTTP {status}, and no new token in it")


def _body(response: httpx.Response, deadline: float) -> bytes:
    """The body, as far as it comes in time and is of a size that such an answer may have."""
    body = b""
    for part in response.iter_raw():
        body += part
        if len(body) > _MAX_BODY_BYTES:
            return b""
        if monotonic() > deadline:
            raise httpx.ReadTimeout("it trickles")
    return body


def _json(text: bytes) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _token(body: dict[str, Any], name: str) -> str | None:
    """A token is of visible characters (RFC 6749, appendix A)."""
    token = body.get(name)
    return token if isinstance(token, str) and token.isascii() and token.isprintable() and token else None


def _lifetime(body: dict[str, Any]) -> timedelta | None:
    seconds = body.get("expires_in")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < _LONGEST_S:
        return None
    return timedelta(seconds=seconds)
