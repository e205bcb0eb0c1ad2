"""What a link has of its socket, and what a listener has of its link."""

from typing import Protocol

from gateway.listeners.peer import Peer


class Transport(Protocol):
    """A socket, seen by its link."""

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not taken yet."""

    def send(self, frame: bytes) -> None:
        """Send one frame, given without delimiter."""

    def close(self) -> None:
        """Close after what was sent, at most 5 s later."""

    def abort(self) -> None:
        """Close at once."""

    def pause_reading(self) -> None:
        """Read no more until `resume_reading`: the peer is held up by TCP."""

    def resume_reading(self) -> None:
        """Read again."""


class Receiver(Protocol):
    """A link, seen by its listener. Everything is called in the loop."""

    @property
    def frame_limit(self) -> int:
        """The most bytes of a frame, asked for at each."""

    def frame_received(self, frame: bytes) -> None:
        """Take one frame, without its delimiter."""

    def broken(self, code: str, message: str) -> None:
        """Answer with an error and close: the peer has sent what is no frame, or too much."""

    def closed(self, error: Exception | None) -> None:
        """Note that the socket is closed: by the peer, by an error, or after `close`. Called once."""
