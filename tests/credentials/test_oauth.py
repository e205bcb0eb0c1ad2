"""The call of the refresh grant: what each answer of a GitLab means for the refresh token that was sent."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from pydantic import SecretStr

from persistence.schema.reasons import CredentialError
from persistence.setting_types import OAuthProvider
from persistence.settings import settings
from support.processes.workers import free_port
from tasks.credentials.oauth import NotProcessed, Refused, Renewed, refresh

CLIENT = OAuthProvider(
    client_id="crawlyard", client_secret=SecretStr("hush+hush"), redirect_uri="https://a.example/"
)


class Provider:
    """A server that answers every call with these bytes, and repeats the last of them until it is closed."""

    def __init__(self, head: bytes, dribble: bytes = b"") -> None:
        self.requests: list[bytes] = []
        self._head, self._dribble = head, dribble
        self._closed = Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """Stop the server."""
        self._closed.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                with connection, suppress(OSError):
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        request = b""
        while not request.endswith(b"example%2F"):
            request += connection.recv(2**16)
        self.requests.append(request)
        connection.sendall(self._head)
        while self._dribble and not self._closed.wait(0.05):
            connection.sendall(self._dribble)


Serve = Callable[..., Provider]


@pytest.fixture(autouse=True)
def timeout(services: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Allow a GitLab half a second; these tests use no database."""
    monkeypatch.setenv("CRAWLYARD_HTTP_TIMEOUT", "0.5")
    monkeypatch.setenv("DATABASE_URL", "postgres://nobody@localhost/nothing")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start providers with given answers."""
    providers: list[Provider] = []

    def start(*parts: bytes) -> Provider:
        providers.append(Provider(*parts))
        return providers[-1]

    yield start
    for provider in providers:
        provider.close()


def reply(status: int, body: object, *headers: str) -> bytes:
    """The bytes of an HTTP answer."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(text)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + text


def call(provider: Provider) -> Any:
    """Send the refresh token once."""
    return refresh(provider.url, CLIENT, "the refresh token")


def test_the_form_is_that_of_the_refresh_grant(serve: Serve) -> None:
    """It is sent once, in the body only, and printing the answer shows no token."""
    provider = serve(reply(200, {"access_token": "a-token", "refresh_token": "r-token", "expires_in": 7200}))

    answer = call(provider)

    assert answer == Renewed("a-token", "r-token", timedelta(hours=2))
    (request,) = provider.requests
    head, _, form = request.decode().partition("\r\n\r\n")
    assert head.startswith("POST /oauth/token HTTP/1.1\r\n")
    assert form == (
        "grant_type=refresh_token&refresh_token=the+refresh+token&client_id=crawlyard"
        "&client_secret=hush%2Bhush&redirect_uri=https%3A%2F%2Fa.example%2F"
    )
    assert [secret for secret in ("a-token", "r-token", "hush") if secret in f"{answer!r} {CLIENT!r}"] == []


def test_proxies_of_the_environment_are_ignored(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would see the tokens."""
    provider, proxy = serve(reply(200, {"access_token": "a"})), serve(reply(502, {}))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)

    assert call(provider) == Renewed("a", None, None)
    assert (len(provider.requests), proxy.requests) == (1, [])


NEW = {"access_token": "a"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (NEW, Renewed("a", None, None)),
        (NEW | {"expires_in": None}, Renewed("a", None, None)),
        (NEW | {"expires_in": "soon"}, Renewed("a", None, None)),
        (NEW | {"expires_in": -1}, Renewed("a", None, None)),
        (NEW | {"expires_in": 1e300}, Renewed("a", None, None)),
        (NEW | {"expires_in": True}, Renewed("a", None, None)),
        (NEW | {"refresh_token": ""}, Renewed("a", None, None)),
        (NEW | {"refresh_token": "b\ud800"}, Renewed("a", None, None)),
    ],
)
def test_a_new_token_is_accepted_with_any_other_fields(serve: Serve, body: object, expected: Renewed) -> None:
    """Fields that are missing or unusable do not matter, since the old token is used up."""
    assert call(serve(reply(200, body))) == expected


UNCLEAR = {
    "no token": reply(200, {"token_type": "Bearer"}),
    "a number": reply(200, {"access_token": 7}),
    "NUL": reply(200, {"access_token": "a\x00"}),
    "a lone surrogate": reply(200, {"access_token": "\ud800"}),
    "a line end": reply(200, {"access_token": "a\r\nX: y"}),
    "a page": reply(200, b"<html>"),
    "no text": reply(200, b"\xff\xfe\x00"),
    "compressed": reply(200, b"\x1f\x8b", "Content-Encoding: gzip"),
    "another status": reply(201, NEW),
    "500": reply(500, {"error": "invalid_grant"}),
    "502": reply(502, b""),
    "another error": reply(400, {"error": "invalid_request"}),
    "an error that is none": reply(400, {"error": ["invalid_grant"]}),
    "a redirect": reply(307, b"", "Location: http://127.0.0.1:9/oauth/token"),
}


@pytest.mark.parametrize("body", UNCLEAR.values(), ids=UNCLEAR)
def test_an_unusable_answer_may_have_used_the_token(serve: Serve, body: bytes) -> None:
    """The token is sent once, and redirects are not followed."""
    provider = serve(body)

    answer = call(provider)

    assert isinstance(answer, Refused)
    assert answer.error is CredentialError.PROVIDER_ERROR
    assert len(provider.requests) == 1


@pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client"])
def test_an_unknown_client_has_not_used_the_token(serve: Serve, error: str) -> None:
    """The message names the setting to check."""
    answer = call(serve(reply(401, {"error": error})))

    assert answer == NotProcessed(CredentialError.PROVIDER_ERROR, f"{error}: check CRAWLYARD_OAUTH_PROVIDERS")


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_gitlab_has_not_used_the_token(serve: Serve, status: int) -> None:
    """The body does not matter, even if it never ends."""
    assert call(serve(f"HTTP/1.1 {status} So\r\nContent-Length: 9\r\n\r\n".encode())) == NotProcessed(
        CredentialError.PROVIDER_ERROR, f"HTTP {status}"
    )


def test_an_unreachable_gitlab_has_not_used_the_token() -> None:
    """The token may be sent again."""
    answer = refresh(f"http://127.0.0.1:{free_port()}", CLIENT, "the refresh token")

    assert answer == NotProcessed(CredentialError.NETWORK_ERROR, "ConnectError")


LOST = {
    "nothing": (b"",),
    "half a head": (b"HTTP/1.1 200 OK\r\n",),
    "half a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n",),
    "a trickle": (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
}


@pytest.mark.parametrize("parts", LOST.values(), ids=LOST)
def test_an_incomplete_or_late_answer_is_lost(serve: Serve, parts: tuple[bytes, ...]) -> None:
    """The token may have been used, so it is refused."""
    answer = call(serve(*parts))

    assert isinstance(answer, Refused)
    assert answer.error is CredentialError.NETWORK_ERROR


def test_an_endless_answer_is_not_read_completely(serve: Serve) -> None:
    """It counts as an answer without a token."""
    answer = call(serve(b"HTTP/1.1 200 OK\r\n\r\n", b"[" * 2**16))

    assert answer == Refused(CredentialError.PROVIDER_ERROR, "HTTP 200 without a new token")
