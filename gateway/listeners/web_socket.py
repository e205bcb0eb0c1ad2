"""WebSocket: one message is one frame. The library parses and builds; the socket is a Stream like any other."""

import logging
from collections import deque
from typing import Final

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from gateway.wire.splitter import BadFrameError

_REQUEST_BYTES: Final = 8 * 1024
"""What the request of the handshake may have: proxies add headers to it."""

_HEADERS: Final = ((125, 6), (2**16 - 1, 8), (2**63, 14))
"""The header of a client's frame has so many bytes, where its payload has at most so many."""

_HEADER_BYTES: Final = _HEADERS[-1][1]

_MESSAGE_BYTES: Final = 16 * 1024**2
"""More than any frame may have; what a frame may have at the moment is asked for when its bytes come."""

_log = logging.getLogger(__name__)
_log.setLevel(logging.CRITICAL)  # the library logs each link that is opened, closed or refused


class Messages:
    """
    The Codec of ws:// and wss://, without compression: that would keep 33 KiB more a link for its windows.

    The library's own server has a task, a queue and a timer a link; its parser without them is all that we need.
    """

    __slots__ = ("_message", "_ponged", "_protocol", "_ready", "_unparsed")

    read_bytes: Final = 16 * 1024
    """Smaller than for lines: in 64 KiB there may be 10,000 empty messages, which take 0.1 s to parse."""

    def __init__(self) -> None:
        self._protocol = ServerProtocol(max_size=_MESSAGE_BYTES, logger=_log)
        self._ready: deque[bytes] = deque()
        """Messages, and an empty one for each part or control frame, which costs its sender as much."""

        self._message: bytearray | None = None
        """The beginning of a message whose other parts have not come."""

        self._unparsed = 0
        self._ponged = False

    @property
    def held(self) -> int:
        """The bytes that were fed and not given yet."""
        return sum(map(len, self._ready)) + self._begun

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun of which the end has not arrived."""
        return self._begun > 0

    @property
    def open(self) -> bool:
        """Whether messages may be sent."""
        return self._protocol.state is OPEN

    @property
    def over(self) -> bool:
        """Whether the peer has said that it closes."""
        return self._protocol.close_rcvd is not None

    @property
    def ponged(self) -> bool:
        """Whether an answer to a ping has come since this was asked last."""
        ponged, self._ponged = self._ponged, False
        return ponged

    def feed(self, chunk: bytes) -> None:
        """Take what was read. To be called only after `next_frame` has returned None."""
        self._unparsed += len(chunk)
        self._protocol.receive_data(chunk)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._unparsed = 0
                self._protocol.send_response(self._protocol.accept(event))
            elif isinstance(event, Frame):
                self._unparsed = max(0, self._unparsed - _size_of(event))
                self._take(event)

    def next_frame(self, limit: int) -> bytes | None:
        """Return the next message, or nothing for a part of one, or None. Raises BadFrameError beyond *limit* bytes."""
        if self._ready:
            frame = self._ready.popleft()
            if len(frame) > limit:
                raise _too_large(limit)
            return frame
        if self._protocol.handshake_exc is not None:
            raise BadFrameError("handshake_failed", "this is no handshake of WebSocket")
        if self._protocol.parser_exc is not None:
            raise BadFrameError("malformed", "this is no WebSocket message")
        bound = limit + _HEADER_BYTES if self._protocol.accept_called else max(limit, _REQUEST_BYTES)
        if self._begun > bound:
            raise _too_large(limit)
        return None

    def forget(self) -> None:
        """Throw away what is held. Nothing may be fed after it."""
        self._ready.clear()
        self._message, self._unparsed = None, 0

    def encode(self, frame: bytes) -> bytes:
        """Return a frame as a text message."""
        self._protocol.send_text(frame)
        return self.replies()

    def ping(self) -> bytes:
        """Return a ping."""
        if not self.open:
            return b""
        self._protocol.send_ping(b"")
        return self.replies()

    def replies(self) -> bytes:
        """Return the answers to handshakes, pings and closes."""
        return b"".join(self._protocol.data_to_send())

    def farewell(self) -> bytes:
        """Return a close."""
        if self.open:
            self._protocol.send_close(1000)
        return self.replies()

    @property
    def _begun(self) -> int:
        return self._unparsed + (0 if self._message is None else len(self._message))

    def _take(self, frame: Frame) -> None:
        """Put the parts of a message together."""
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.fin and self._message is None:
                self._ready.append(bytes(frame.data))
                return
            if self._message is None:
                self._message = bytearray()
            self._message += frame.data
            if frame.fin:
                self._ready.append(bytes(self._message))
                self._message = None
                return
        elif frame.opcode is Opcode.PONG:
            self._ponged = True
        self._ready.append(b"")


def _size_of(frame: Frame) -> int:
    """How many bytes a frame of a client has on the wire."""
    length = len(frame.data)
    return length + next(header for most, header in _HEADERS if length <= most)


def _too_large(limit: int) -> BadFrameError:
    return BadFrameError("frame_too_large", f"a frame has more than {limit} bytes")
