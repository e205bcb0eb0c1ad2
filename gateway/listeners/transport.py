"""What a link and its socket have of each other, whatever the socket is."""

from typing import Final, Protocol

from gateway.listeners.peer import Peer

HELLO_BYTES: Final = 4 * 1024
"""What a frame may have before its crawler is known."""


class Transport(Protocol):
    """What a link has of its socket. Nothing of it blocks or raises, also after the socket is closed."""

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not taken yet."""

    def send(self, frame: bytes) -> None:
        """Send one frame, without its delimiter."""

    def ping(self) -> bool:
        """Ask for a sign of life as WebSocket does; False: this socket cannot, send a frame that asks."""

    def authenticated(self) -> None:
        """Note that the crawler is known, so that its link no longer counts as one of a stranger."""

    def close(self) -> None:
        """Close after what was sent, without giving another frame; after at most 5 s in any case."""

    def abort(self) -> None:
        """Close at once."""

    def pause_reading(self) -> None:
        """Give no frame until resume_reading(), also of those that have arrived."""

    def resume_reading(self) -> None:
        """Give frames again, the first of them not before this returns."""


class Receiver(Protocol):
    """A link, as its socket sees it."""

    @property
    def frame_limit(self) -> int:
        """What a frame may have, in bytes; asked for each."""

    def frame_received(self, frame: bytes) -> None:
        """Take a frame, without its delimiter; never an empty one."""

    def ponged(self) -> None:
        """Note that the peer has answered a ping()."""

    def broken(self, code: str, message: str) -> None:
        """Tell the peer this error and close: the socket gives nothing more."""

    def closed(self, error: Exception | None) -> None:
        """Note the end, once: the peer has gone (None), or the socket has failed."""
