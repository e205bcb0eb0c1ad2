"""How frames are carried on a stream of bytes: as lines, as bare JSON values, or as WebSocket messages."""

from typing import Protocol

from gateway.wire.splitter import LineSplitter, Splitter, ValueSplitter


class Codec(Splitter, Protocol):
    """Frames of one link, in and out."""

    @property
    def open(self) -> bool:
        """Whether frames may be sent: false before a handshake, and after the peer has closed."""

    @property
    def over(self) -> bool:
        """Whether the peer has said that it closes."""

    @property
    def read_bytes(self) -> int:
        """The most that is to be fed at once."""

    @property
    def ponged(self) -> bool:
        """Whether an answer to a ping has come since this was asked last."""

    def encode(self, frame: bytes) -> bytes:
        """Return a frame as it is sent."""

    def ping(self) -> bytes:
        """Return what asks for a sign of life; nothing if there is no such thing."""

    def replies(self) -> bytes:
        """Return what the protocol itself has to say to what was fed."""

    def farewell(self) -> bytes:
        """Return what is sent before the end."""


class _Delimited:
    """A stream without handshake, pings or a farewell, in which a newline follows each frame of ours."""

    __slots__ = ()

    open = True
    over = False
    ponged = False
    read_bytes = 64 * 1024

    def encode(self, frame: bytes) -> bytes:
        """Return a frame and the newline."""
        return frame + b"\n"

    def ping(self) -> bytes:
        """Return nothing."""
        return b""

    replies = farewell = ping


class Lines(_Delimited, LineSplitter):
    """Protocol 1 over Unix, TCP and TLS."""

    __slots__ = ()


class Values(_Delimited, ValueSplitter):
    """The original dialect."""

    __slots__ = ()
