"""One socket: gives frames to its link, sends the link's frames, and keeps both within their bounds."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from traceback import format_exc
from typing import Final, cast

import structlog

from gateway.listeners.bounds import Admission, HeldBytes, Limits, Pace
from gateway.listeners.codec import Codec
from gateway.listeners.deadlines import Deadlines
from gateway.listeners.peer import Peer
from gateway.listeners.transport import HELLO_BYTES, Receiver, Transport
from gateway.metrics import metrics
from gateway.wire.splitter import BadFrameError

_log = structlog.get_logger()

_READ_BYTES: Final = 64 * 1024
_LATE_ERROR_BYTES: Final = 64 * 1024
"""A peer that has left more than this unread would not read an error either."""

_FRAMES_A_TURN: Final = 32
"""A read may hold a thousand frames: given at once, those of four links kept all others waiting for 0.2 to 0.5 s."""

_BY_LINK: Final = 1
_BY_RATE: Final = 2
_BY_TURN: Final = 4


@dataclass(frozen=True)
class Shared:
    """What all sockets of a process share."""

    limits: Limits
    counters: Counter[str]
    admission: Admission
    held: HeldBytes
    deadlines: Deadlines
    buffer: memoryview
    """One for all: a read is copied out of it before the next one begins."""

    @classmethod
    def of(cls, limits: Limits, counters: Counter[str]) -> "Shared":
        """Begin without links; what is counted is added to *counters*."""
        return cls(
            limits,
            counters,
            Admission(limits, counters),
            HeldBytes(limits.held),
            Deadlines(),
            memoryview(bytearray(_READ_BYTES)),
        )


class Stream(asyncio.BufferedProtocol):
    """
    A socket and its frames: the Transport of a link.

    The frames that one read holds are given one after the other until the link, or its rate, says to pause; the rest
    waits here, and the peer is held up by TCP.
    """

    __slots__ = (
        "_accept",
        "_closing",
        "_codec",
        "_deadline",
        "_loop",
        "_pace",
        "_paused",
        "_receiver",
        "_shared",
        "_stopped",
        "_transport",
        "opening",
        "peer",
    )

    def __init__(
        self, peer: Peer, codec: Codec, accept: Callable[[Transport], Receiver], shared: Shared
    ) -> None:
        self.peer = peer
        self.opening: asyncio.Task[None] | None = None
        """Makes the socket ready, as by a TLS handshake."""
        self._loop = asyncio.get_running_loop()
        self._codec = codec
        self._accept = accept
        self._shared = shared
        self._pace = Pace(shared.limits.burst)
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._paused = 0
        self._closing = False
        self._stopped = False
        self._deadline: asyncio.TimerHandle | None = None

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's transports are not derived from asyncio's.
        self._transport, self.opening = cast("asyncio.Transport", transport), None
        self._transport.set_write_buffer_limits(high=0)  # so that we are told when all is sent
        self._receiver = self._accept(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio names it
        """Return where the next read goes: of a stranger, not more than its first frame may have."""
        assert self._receiver is not None
        most = HELLO_BYTES if self._receiver.frame_limit <= HELLO_BYTES else self._codec.read_bytes
        return self._shared.buffer[:most]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        if self._closing:
            return
        metrics.count("bytes_in", nbytes)
        self._codec.feed(bytes(self._shared.buffer[:nbytes]))
        self._give()

    def eof_received(self) -> bool:
        """Close, since the peer has closed its end; what is not sent yet is sent first, but not for ever."""
        if not self._closing:
            self._begin_closing()
        return False

    def pause_writing(self) -> None:
        """Note that something is unsent; send() accounts for it."""

    def resume_writing(self) -> None:
        """Note that all is sent."""
        self._account()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._closing = True
        self._forget_input()
        self._shared.admission.release(self)
        if self._deadline is not None:
            self._deadline.cancel()
        self._shared.held.hold(self, 0)
        self._transport = None  # which may not be aborted any more
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.closed(exc)

    # What the link calls.

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, frame: bytes) -> None:
        """Send one frame; too much that is not read ends the link."""
        if self._codec.open:
            metrics.count("frames_out")
            self._write(self._codec.encode(frame))

    def ping(self) -> bool:
        """Ask for a sign of life as WebSocket does; False: this socket cannot."""
        asked = self._codec.ping()
        self._write(asked)
        return bool(asked)

    def authenticated(self) -> None:
        """Note that the crawler is known."""
        self._shared.admission.know(self)

    def close(self) -> None:
        """
        Close after what was sent.

        Our end is closed first, and what the peer still sends is thrown away until it closes its own: a socket that
        is closed with input in it resets the connection, and the peer would not read why.
        """
        if self._transport is None:
            self.abort()
        if self._closing or self._transport is None:
            return
        self._write(self._codec.farewell())
        self._begin_closing()
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            try:
                if self._paused:
                    self._transport.resume_reading()
                self._transport.write_eof()
            except OSError:  # the peer has gone, and the loop has not noticed yet
                self.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def pause_reading(self) -> None:
        """Give no frame until resume_reading()."""
        self._pause(_BY_LINK)

    def resume_reading(self) -> None:
        """Give frames again, soon."""
        self._resume(_BY_LINK)

    # What the bounds call.

    def stop(self, code: str, message: str) -> None:
        """Give back everything and close, for this reason."""
        if self._closing or self._stopped:
            return
        self._stopped = True
        self._shared.counters[code] += 1
        self._forget_input()
        reads = self.unsent <= _LATE_ERROR_BYTES
        if self._receiver is not None:
            self._receiver.broken(code, message)
        if self._receiver is not None and reads:
            self.close()
        else:
            self.abort()
        self._shared.held.hold(self, self.unsent)

    def half_frame(self) -> None:
        """End since a frame was begun and not finished in time."""
        self.stop(
            "half_frame", f"a frame was begun and not finished within {self._shared.limits.half_frame:g} s"
        )

    def _close_late(self) -> None:
        self._shared.counters["not_closed"] += 1
        self.abort()

    # Input.

    def _give(self) -> None:
        """Give what frames there are, until somebody says to pause."""
        receiver, codec = self._receiver, self._codec
        given = 0
        while not self._paused and not self._closing and receiver is not None:
            try:
                frame = codec.next_frame(receiver.frame_limit)
            except BadFrameError as error:
                self._write(codec.replies())
                self.stop(error.code, str(error))
                return
            if frame is None:
                break
            given += 1
            self._charge(len(frame))
            if frame:
                self._give_one(receiver, frame)
            if given == _FRAMES_A_TURN and codec.held:
                self._pause(_BY_TURN)  # until the next turn of the loop, after what others wait for
                self._loop.call_soon(self._next_turn)
                break
        if not self._closing:
            self._after_input(given=given > 0)

    def _give_one(self, receiver: Receiver, frame: bytes) -> None:
        try:
            receiver.frame_received(frame)
        except Exception:  # noqa: BLE001 - a fault in one link must not end others
            # As text: a traceback that is rendered later may show the frame, and so a secret.
            _log.error("link_failed", peer=self.peer.address, traceback=format_exc())
            self.stop("internal", "a fault of the gateway")

    def _after_input(self, *, given: bool) -> None:
        self._write(self._codec.replies())
        if self._codec.ponged and self._receiver is not None:
            self._receiver.ponged()
        if self._codec.over:
            self.close()
            return
        self._account()
        deadlines = self._shared.deadlines
        if self._paused or not self._codec.unfinished:
            deadlines.end(self)
        elif given or self not in deadlines:
            deadlines.begin(self, self._loop.time() + self._shared.limits.half_frame)

    def _charge(self, size: int) -> None:
        """Pause after frames that came faster than they may."""
        limits, now = self._shared.limits, self._loop.time()
        wait = self._pace.take(max(1 / limits.frame_rate, size / limits.byte_rate), now)
        if wait:
            self._shared.counters["rate"] += 1
            self._pause(_BY_RATE)
            self._loop.call_later(wait, self._resume, _BY_RATE)

    def _pause(self, by: int) -> None:
        if not self._paused and not self._closing and self._transport is not None:
            if not self._transport.is_closing():
                self._transport.pause_reading()
            self._shared.deadlines.end(self)  # whose rest we do not read
        self._paused |= by

    def _resume(self, by: int) -> None:
        """Go on in the next turn: whoever calls this is not to be given a frame before it returns."""
        if self._paused & by:
            self._paused &= ~by
            if not self._paused:
                self._paused = _BY_TURN
                self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        """Give what has waited, then read again."""
        self._paused &= ~_BY_TURN
        if self._paused or self._closing or self._transport is None:
            return
        self._give()
        if not (self._paused or self._closing or self._transport.is_closing()):
            self._transport.resume_reading()

    # Output and accounts.

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if not data or self._closing or transport is None or transport.is_closing():
            return
        transport.write(data)
        if unsent := transport.get_write_buffer_size():
            if unsent > self._shared.limits.unsent and not self._stopped:
                self.stop("slow_consumer", "the crawler does not read what it is sent")
            else:
                self._account()

    def _account(self) -> None:
        self._shared.held.hold(self, self._codec.held + self.unsent)

    def _begin_closing(self) -> None:
        self._closing = True
        self._forget_input()
        self._deadline = self._loop.call_later(self._shared.limits.close, self._close_late)
        self._account()

    def _forget_input(self) -> None:
        self._codec.forget()
        self._shared.deadlines.end(self)
