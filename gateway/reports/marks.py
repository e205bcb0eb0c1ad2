"""What is said last of a connection, once nothing that it reported is unhandled: that it is lost, or said goodbye."""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from gateway.reports.message import Message
from persistence.schema.ids import ConnectionId

PATIENCE_S: Final = 10.0
"""A mark that cannot be said for so long is dropped: the workers find the connection by its silence."""

_REASON_CHARACTERS: Final = 200

_LOST: Final = "connections.lost"
_GOODBYE: Final = "connections.disconnect"


@dataclass(eq=False)
class _Mark:
    connection_id: ConnectionId
    task: str
    arguments: dict[str, Any]
    until: float


class Marks:
    """The marks that were not said."""

    def __init__(self, has_unhandled: Callable[[ConnectionId], bool]) -> None:
        self._has_unhandled = has_unhandled
        self._waiting: dict[ConnectionId, _Mark] = {}
        self._deadlines: deque[_Mark] = deque()
        self._ready: dict[ConnectionId, None] = {}
        self.dropped = 0
        """How many could not be said in time."""

    def __bool__(self) -> bool:
        return bool(self._ready)

    def lost(self, connection_id: ConnectionId, n: int, link: str, now: float) -> None:
        """Say that a link has ended without a goodbye, unless its connection has said goodbye."""
        marked = self._waiting.get(connection_id)
        if marked is None or marked.task == _LOST:
            arguments = {"connection_id": connection_id, "n": n, "link": link}
            self._add(_Mark(connection_id, _LOST, arguments, now + PATIENCE_S))

    def goodbye(self, connection_id: ConnectionId, reason: str | None, now: float) -> None:
        """Say that a connection has ended cleanly."""
        # The reason is logged at most; the contract's bounds for it must not cost us the goodbye.
        said = reason and reason.replace("\0", "")[:_REASON_CHARACTERS]
        arguments = {"connection_id": connection_id, "reason": said}
        self._add(_Mark(connection_id, _GOODBYE, arguments, now + PATIENCE_S))

    def attached(self, connection_id: ConnectionId) -> None:
        """Do not say that a connection is lost: it has a newer link."""
        marked = self._waiting.get(connection_id)
        if marked and marked.task == _LOST:
            self._forget(connection_id)

    def drained(self, connection_id: ConnectionId) -> None:
        """Note that nothing of a connection is unhandled."""
        if connection_id in self._waiting:
            self._ready[connection_id] = None

    def take(self, now: float, limit: int) -> list[Message]:
        """Return up to *limit* marks that can be said now, and drop those that waited for too long."""
        while self._deadlines and self._deadlines[0].until <= now:
            mark = self._deadlines.popleft()
            if self._waiting.get(mark.connection_id) is mark:
                self._forget(mark.connection_id)
                self.dropped += 1
        messages = []
        for connection_id in list(self._ready)[:limit]:
            del self._ready[connection_id]
            if not self._has_unhandled(connection_id):
                mark = self._waiting.pop(connection_id)
                messages.append(
                    Message(mark.task, json.dumps(mark.arguments).encode(), said_until=mark.until)
                )
        return messages

    def _add(self, mark: _Mark) -> None:
        self._waiting[mark.connection_id] = mark
        self._deadlines.append(mark)
        if not self._has_unhandled(mark.connection_id):
            self._ready[mark.connection_id] = None

    def _forget(self, connection_id: ConnectionId) -> None:
        del self._waiting[connection_id]
        self._ready.pop(connection_id, None)
