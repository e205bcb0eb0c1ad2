"""Serves the gateway's figures over HTTP, and whether it may have new links: for Prometheus, probes and balancers."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import structlog

from gateway.metrics import Metrics
from persistence.exceptions import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = structlog.get_logger()

_MAX_CLIENTS: Final = 32
_MAX_HEAD_BYTES: Final = 8 * 1024
_PATIENCE_S: Final = 5.0

_PLAIN, _PROMETHEUS = "text/plain; charset=utf-8", "text/plain; version=0.0.4; charset=utf-8"


class MetricsServer:
    """Serves `/metrics`; `/live`, while the loop turns; `/ready`, which is 503 while no crawler should come."""

    def __init__(self, metrics: Metrics, state: Callable[[], str]) -> None:
        self._metrics = metrics
        self._state = state
        self._clients = 0

    @asynccontextmanager
    async def listen(self, host: str, port: int) -> "AsyncIterator[tuple[str, int]]":
        """Serve; yields where. Raises SettingsError if that is not possible."""
        try:
            server = await asyncio.start_server(self._serve, host, port, limit=_MAX_HEAD_BYTES)
        except OSError as error:
            raise SettingsError(
                f"CRAWLYARD_GATEWAY_METRICS: cannot listen on {host}:{port}: {error.strerror}"
            ) from None
        async with server:
            place = server.sockets[0].getsockname()
            log.info("metrics_served", host=place[0], port=place[1])
            yield place[0], place[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients <= _MAX_CLIENTS:
                async with asyncio.timeout(_PATIENCE_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(head.split(b"\r\n", 1)[0].decode("latin-1")))
                    await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError):
            pass  # no request, or nobody waits for the answer
        finally:
            self._clients -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _answer(self, request: str) -> bytes:
        method, _, rest = request.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method not in {"GET", "HEAD"}:
            return _response("405 Method Not Allowed", "GET only\n")
        match path:
            case "/metrics":
                return _response("200 OK", self._metrics.as_text(), _PROMETHEUS, head=method == "HEAD")
            case "/live":
                return _response("200 OK", "live\n", head=method == "HEAD")
            case "/ready":
                state = self._state()
                status = "200 OK" if state == "serving" else "503 Service Unavailable"
                return _response(status, f"{state}\n", head=method == "HEAD")
        return _response("404 Not Found", "there are /metrics, /live and /ready\n")


def _response(status: str, text: str, content_type: str = _PLAIN, *, head: bool = False) -> bytes:
    body = text.encode()
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head else body)


def read_place(text: str) -> tuple[str, int]:
    """Read `host:port`. Raises SettingsError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:  # noqa: PLR2004
        raise SettingsError(
            f"CRAWLYARD_GATEWAY_METRICS is {text!r}; write host and port, such as 127.0.0.1:9433"
        )
    return host, int(port)
