"""Reads replies of Redis up to a bound, and drops the rest: a text in a list may have 512 MiB."""

from typing import Any, Final

from redis._parsers.socket import SocketBuffer
from redis.connection import AbstractConnection
from redis.utils import SENTINEL

from tasks.worker.envelope import MAX_TEXT_BYTES

MAX_REPLY_BYTES: Final = MAX_TEXT_BYTES * 4 // 3 + 4096
"""The largest text of a queue in the record of a message in hand, in base64."""


class BoundedBuffer(SocketBuffer):
    """redis-py's buffer, which cuts a value that is too large instead of holding it in memory."""

    def read(self, length: int, timeout: Any = SENTINEL) -> bytes:
        """Read one value, at most MAX_REPLY_BYTES of it."""
        if length <= MAX_REPLY_BYTES:
            return bytes(super().read(length, timeout=timeout))
        value, left = bytearray(), length + len(b"\r\n")
        while left:
            piece = self._buffer.read(left)
            if not piece:
                self._buffer.seek(0)
                self._buffer.truncate()
                self._read_from_socket(timeout=timeout)
                continue
            left -= len(piece)
            value += piece[: MAX_REPLY_BYTES - len(value)]
        return bytes(value)


class BoundedReplies:
    """A mixin for redis-py's connections."""

    def on_connect_check_health(self: Any, *args: Any, **kwargs: Any) -> None:
        """Bound the replies once the server has accepted the connection."""
        AbstractConnection.on_connect_check_health(self, *args, **kwargs)
        self._parser._buffer = BoundedBuffer(self._sock, self._socket_read_size, self.socket_timeout)  # noqa: SLF001


def bounded(connection_class: type) -> type:
    """Return a class of connections like this one, with bounded replies."""
    return type(f"Bounded{connection_class.__name__}", (BoundedReplies, connection_class), {})
