"""
A GitLab that issues, refreshes and revokes OAuth tokens, over real HTTP.

A refresh token works once. If it is used again, all tokens of its authorization are revoked, as GitLab does.
"""

import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

LIFETIME_SECONDS = 7200

Reply = tuple[int, bytes]
"""An HTTP status and a body."""

Answer = Callable[[Reply], Reply]
"""Replaces the correct reply by another one; the request has taken effect by then."""


@dataclass
class _Family:
    """All tokens of one authorization."""

    access_token: str
    refresh_token: str
    used: set[str] = field(default_factory=set)
    is_revoked: bool = False
    has_expired: bool = False

    @property
    def is_valid(self) -> bool:
        return not self.is_revoked and not self.has_expired


class GitLab:
    """Serves from `__enter__` to `__exit__`, on a free loopback port, below *path* if one is given: `/gitlab`."""

    def __init__(self, dies_at_use: int | None = None, path: str = "") -> None:
        self.path = path
        self.client_id = "crawlyard"
        self.client_secret = secrets.token_hex(16)
        self.calls = 0
        """Requests to refresh a token."""
        self.checks = 0
        """Questions whether a token works."""
        self.issued: list[str] = []
        """Every token that was ever issued."""
        self._uses_left = dies_at_use
        self.answer: Answer = lambda reply: reply
        self.tells: Answer = lambda reply: reply
        """The same, for questions whether a token works."""
        self._families: list[_Family] = []
        self._personal: dict[str | None, bool] = {}
        """Personal access tokens, and whether they are active."""
        self._lock = Lock()
        handler = type("Handler", (_Handler,), {"gitlab": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{path}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def providers(self) -> str:
        """Return the value of CRAWLYARD_OAUTH_PROVIDERS with which tokens are refreshed here."""
        return json.dumps({self.url: {"client_id": self.client_id, "client_secret": self.client_secret}})

    def authorize(self) -> tuple[str, str]:
        """Issue a first pair: access token and refresh token."""
        with self._lock:
            self._families.append(_Family(*self._pair()))
            return self._families[-1].access_token, self._families[-1].refresh_token

    def accepts(self, access_token: str | None) -> bool:
        """Return true if the token is valid. With *dies_at_use*, all tokens expire at that use."""
        with self._lock:
            if self._uses_left is not None:
                self._uses_left -= 1
                if self._uses_left == 0:
                    self._expire()
            return any(f.access_token == access_token and f.is_valid for f in self._families)

    def info(self, authorization: str | None) -> Reply:
        """Answer GET /oauth/token/info."""
        with self._lock:
            self.checks += 1
            if any(f"Bearer {f.access_token}" == authorization and f.is_valid for f in self._families):
                return _reply(200, resource_owner_id=1, expires_in=LIFETIME_SECONDS)
            return _reply(401, error="invalid_token")

    def self_info(self, private_token: str | None) -> Reply:
        """Answer GET /api/v4/personal_access_tokens/self."""
        with self._lock:
            self.checks += 1
            if private_token in self._personal:
                is_active = self._personal[private_token]
                return _reply(200, id=1, user_id=1, active=is_active, revoked=not is_active)
            return _reply(401, message="401 Unauthorized")

    def authorize_personally(self) -> str:
        """Issue a personal access token, which nothing refreshes."""
        with self._lock:
            token = f"glpat-{secrets.token_hex(10)}"
            self.issued.append(token)
            self._personal[token] = True
            return token

    def expire(self) -> None:
        """Expire all access tokens; they can be refreshed."""
        with self._lock:
            self._expire()

    def revoke(self) -> None:
        """Revoke all tokens."""
        with self._lock:
            for family in self._families:
                family.is_revoked = True
            self._personal = dict.fromkeys(self._personal, False)

    def token(self, form: dict[str, str]) -> Reply:
        """Answer POST /oauth/token."""
        with self._lock:
            self.calls += 1
            if (form.get("client_id"), form.get("client_secret")) != (self.client_id, self.client_secret):
                return _reply(401, error="invalid_client")
            return self._refreshed(form.get("refresh_token", ""))

    def _expire(self) -> None:
        for family in self._families:
            family.has_expired = True

    def _pair(self) -> tuple[str, str]:
        pair = f"access-{secrets.token_hex(20)}", f"refresh-{secrets.token_hex(20)}"
        self.issued += pair
        return pair

    def _refreshed(self, refresh_token: str) -> Reply:
        for family in self._families:
            if refresh_token in family.used:
                family.is_revoked = True
            elif refresh_token == family.refresh_token and not family.is_revoked:
                family.used.add(refresh_token)
                family.access_token, family.refresh_token = self._pair()
                family.has_expired = False
                return _reply(
                    200,
                    access_token=family.access_token,
                    refresh_token=family.refresh_token,
                    token_type="Bearer",  # noqa: S106 - no password
                    expires_in=LIFETIME_SECONDS,
                )
        return _reply(400, error="invalid_grant")


class _Handler(BaseHTTPRequestHandler):
    gitlab: GitLab

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        form = {name: values[-1] for name, values in parse_qs(body).items()}
        reply = (
            self.gitlab.token(form) if self._endpoint() == "/oauth/token" else _reply(404, error="not found")
        )
        self._send(self.gitlab.answer(reply))

    def do_GET(self) -> None:
        # Each endpoint reads the header of its own kind of token, and no other.
        match self._endpoint():
            case "/oauth/token/info":
                reply = self.gitlab.info(self.headers.get("Authorization"))
            case "/api/v4/personal_access_tokens/self":
                reply = self.gitlab.self_info(self.headers.get("PRIVATE-TOKEN"))
            case _:
                reply = _reply(404, error="not found")
        self._send(self.gitlab.tells(reply))

    def _endpoint(self) -> str:
        """Return what is asked for, below the path of the GitLab; '' if it is not below it."""
        path = self.gitlab.path
        return self.path[len(path) :] if self.path.startswith(path) else ""

    def _send(self, reply: Reply) -> None:
        status, text = reply
        with suppress(OSError):  # the client has closed the connection
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def _reply(status: int, **body: Any) -> Reply:
    return status, json.dumps(body).encode()
