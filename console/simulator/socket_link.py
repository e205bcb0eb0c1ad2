"""A link to a gateway: a socket over which frames are sent and read, a line each, without ever blocking."""

import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

_READ_BYTES = 65_536

Target = tuple[socket.AddressFamily, Any]


def target_of(address: str) -> Target:
    """Read `unix:/path` or `tcp://host:port`. Raises ValueError."""
    parts = urlsplit(address)
    if parts.scheme == "unix":
        return socket.AF_UNIX, parts.path
    if parts.scheme != "tcp" or not parts.hostname or not parts.port:
        raise ValueError(f"{address} is neither unix:/path nor tcp://host:port")
    family, *_, place = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)[0]
    return family, place


class SocketLink:
    """The selector's owner calls `on_ready`, which is the data of the selector's key."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        target: Target,
        on_change: Callable[["SocketLink"], None],
    ) -> None:
        """Begin to connect; *on_change* is called when it is up, has failed, or has read something. Raises OSError."""
        self.is_up = False
        self.has_ended = False
        """True if the gateway has closed it, or it broke: nothing more is sent, but what was read can be taken."""
        self.unread = bytearray()
        self._selector = selector
        self._on_change = on_change
        self._unsent = bytearray()
        family, address = target
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(0)
        try:
            self._socket.connect(address)
        except BlockingIOError:
            if family == socket.AF_UNIX:  # its backlog is full
                self._socket.close()
                raise
        except OSError:
            self._socket.close()
            raise
        selector.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def send(self, frame: bytes) -> None:
        """Send a frame as soon as the gateway takes it; drop it if the link has ended."""
        if not self.has_ended:
            self._unsent += frame + b"\n"
            self._flush()

    def take(self) -> list[bytes]:
        """Take the whole frames that were read."""
        *lines, rest = bytes(self.unread).split(b"\n")
        self.unread = bytearray(rest)
        return lines

    def close(self) -> None:
        """Close the socket; nothing is called back any more."""
        self._unregister()
        self._socket.close()
        self.has_ended = True

    def on_ready(self, events: int) -> None:
        """Connect, go on sending, or read."""
        if events & selectors.EVENT_WRITE and not self.has_ended:
            if not self.is_up:
                self._connected()
            self._flush()
        if events & selectors.EVENT_READ and not self.has_ended:
            self._read()

    def _connected(self) -> None:
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._end()
        else:
            self.is_up = True
        self._on_change(self)

    def _read(self) -> None:
        try:
            read = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            read = b""
        self.unread += read
        if not read:
            self._end()
        self._on_change(self)

    def _end(self) -> None:
        self.has_ended = True
        self._unregister()

    def _unregister(self) -> None:
        with suppress(KeyError, ValueError):
            self._selector.unregister(self._socket)

    def _flush(self) -> None:
        if self.has_ended:
            return
        try:
            del self._unsent[: self._socket.send(self._unsent) if self._unsent else 0]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()  # what was read before the end may still say why
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent or not self.is_up else 0)
        if self._selector.get_key(self._socket).events != wanted:
            self._selector.modify(self._socket, wanted, self)
