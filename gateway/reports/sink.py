"""What the links say to the broker."""

from collections.abc import Callable
from typing import Any, Protocol

from gateway.wire.protocol_1 import Frame
from persistence.schema.ids import ConnectionId


class ReportSink(Protocol):
    """The reports, seen by the links."""

    def add(self, connection_id: ConnectionId, frame: Frame, on_handled: Callable[[], None]) -> bool:
        """
        Take a frame, and call back once its message has been handled.

        Returns False if it is taken, but no more should be read until there is room: the links are called back
        with the connection then (`on_room` of Reports).
        """

    def beat(self, connection_id: ConnectionId, beat: dict[str, Any]) -> None:
        """Take a heartbeat, as `connections.heartbeat` has it; it replaces one that is not sent yet."""

    def attach(self, link: dict[str, Any]) -> None:
        """Take a link, as `connections.attach` has it."""

    def lost(self, connection_id: ConnectionId, n: int, link: str) -> None:
        """Say that a link has ended, once all frames of the connection are handled; never if that takes long."""

    def goodbye(self, connection_id: ConnectionId, reason: str | None) -> None:
        """Say that a crawler has left, under the same rule."""

    def has_unhandled(self, connection_id: ConnectionId) -> bool:
        """True if frames of this connection have not been handled yet."""
