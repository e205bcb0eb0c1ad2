"""Accepts links from one listening socket, no faster than they may come."""

import asyncio
import errno
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import structlog

from gateway.listeners.addresses import ListenAddress
from gateway.listeners.bounds import Pace
from gateway.listeners.codec import Codec, Lines, Values
from gateway.listeners.peer import peer_of
from gateway.listeners.stream import Shared, Stream
from gateway.listeners.tls import Tls
from gateway.listeners.transport import Receiver, Transport
from gateway.listeners.web_socket import Messages

_log = structlog.get_logger()

_AT_ONCE: Final = 32
"""Links that are accepted before the loop turns to what others wait for."""

_SHORTAGE_PAUSE_S: Final = 0.5
_GONE: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPROTO,
    }
)
"""Errors of the one socket that was to be accepted, as accept(2) has them; all others are a shortage of ours."""

_TELL_EVERY_S: Final = 1.0


class Acceptor:
    """
    A listening socket.

    Not asyncio's own server: that accepts a whole backlog at once, knows no rate, and makes a link of each socket
    before anybody is asked.
    """

    def __init__(
        self,
        address: ListenAddress,
        sock: socket.socket,
        *,
        accept: Callable[[Transport], Receiver],
        shared: Shared,
        pace: Pace,
        tls: Tls | None,
    ) -> None:
        sock.settimeout(0)
        self.address = address
        self._sock = sock
        self._accept = accept
        self._shared = shared
        self._pace = pace
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._told_at = -_TELL_EVERY_S

    def start(self) -> None:
        """Listen, and accept."""
        self._sock.listen(self._shared.limits.backlog)
        self._go_on()

    def stop(self) -> None:
        """Accept no more, and close the listening socket; handshakes that have begun go on."""
        if self._stopped:
            return
        self._stopped = True
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _go_on(self) -> None:
        self._pause = None
        if not self._stopped:
            self._loop.add_reader(self._sock, self._accept_some)

    def _wait(self, seconds: float, code: str) -> None:
        self._shared.counters[code] += 1
        self._loop.remove_reader(self._sock)
        self._pause = self._loop.call_later(seconds, self._go_on)

    def _accept_some(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                _log.warning("accepting_paused", listener=str(self.address), error=error.strerror)
                self._wait(_SHORTAGE_PAUSE_S, "no_descriptors")
                return
            self._begin(sock)
            if wait := self._pace.take(1 / self._shared.limits.accept_rate, self._loop.time()):
                self._wait(wait, "accept_rate")
                return

    def _begin(self, sock: socket.socket) -> None:
        """Make a link of a new socket, or refuse it."""
        sock.settimeout(0)
        try:
            peer = peer_of(self.address, sock)
            if self.address.scheme != "unix":
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # gone already
            sock.close()
            return
        stream = Stream(peer, self._codec(), self._accept, self._shared)
        if not self._shared.admission.admit(stream, peer.source, self._loop.time()):
            self._refuse(sock)
            return
        task = self._loop.create_task(self._open(sock, stream))
        stream.opening = task
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _codec(self) -> Codec:
        if self.address.web_socket:
            return Messages()
        return Values() if self.address.dialect == "original" else Lines()

    async def _open(self, sock: socket.socket, stream: Stream) -> None:
        handshake = {}
        if self._tls is not None:
            limits = self._shared.limits
            handshake = {"ssl_handshake_timeout": limits.handshake, "ssl_shutdown_timeout": limits.close}
        context = None if self._tls is None else self._tls.context
        try:
            await self._loop.connect_accepted_socket(lambda: stream, sock, ssl=context, **handshake)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it was, nothing is left of it
            self._shared.counters["handshake_failed"] += 1
            self._shared.admission.release(stream)
            sock.close()
            self._tell(stream, error)

    def _tell(self, stream: Stream, error: BaseException) -> None:
        """Log why a handshake failed, but not as often as strangers like."""
        if (now := self._loop.time()) >= self._told_at + _TELL_EVERY_S:
            self._told_at = now
            why = getattr(error, "reason", None) or str(error) or type(error).__name__
            _log.info("handshake_failed", listener=str(self.address), peer=stream.peer.address, why=why)

    def _refuse(self, sock: socket.socket) -> None:
        """Close a socket, with a word about why if it can be said without a handshake."""
        with suppress(OSError), sock:
            if self.address.scheme in ("unix", "tcp") and self.address.dialect is None:
                sock.send(_refusal())
                sock.shutdown(socket.SHUT_WR)
                sock.recv(4096)  # a socket that is closed with input in it takes back what it has sent


def _refusal() -> bytes:
    data = {
        "code": "too_many_links",
        "message": "no more links may be open; connect again later",
        "closes": True,
    }
    frame = {"type": "error", "timestamp": datetime.now(UTC).isoformat(), "data": data}
    return json.dumps(frame).encode() + b"\n"
