"""The heartbeats of links: of each the latest, and one on its way at a time, since a later one may overtake it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from gateway.reports.message import Message, batch
from persistence.schema.ids import ConnectionId

MESSAGE_BEATS: Final = 1000

LISTS_FRESH_S: Final = 1.0
"""An unsent list of active jobs is sent with a later beat that has none for so long; then it says too little."""


@dataclass
class _Unsent:
    beat: dict[str, Any]
    listed_at: float


class Beats:
    """The beats that were not sent, and the connections whose last one is not handled."""

    def __init__(self) -> None:
        self._unsent: dict[ConnectionId, _Unsent] = {}
        self._in_flight: set[ConnectionId] = set()
        self._ready: dict[ConnectionId, None] = {}
        """Connections with an unsent beat and none in flight, in their order."""

    def __bool__(self) -> bool:
        return bool(self._ready)

    def __len__(self) -> int:
        return len(self._unsent)

    def add(self, connection_id: ConnectionId, beat: Mapping[str, Any], now: float) -> None:
        """Let a beat replace the unsent one; it keeps what only that one says."""
        unsent = self._unsent.get(connection_id)
        earlier = unsent.beat if unsent else {}
        if unsent and now - unsent.listed_at > LISTS_FRESH_S:
            earlier.pop("active_jobs", None)
        listed_at = now if unsent is None or "active_jobs" in beat else unsent.listed_at
        self._unsent[connection_id] = _Unsent({**earlier, **beat, "connection_id": connection_id}, listed_at)
        if connection_id not in self._in_flight:
            self._ready[connection_id] = None

    def drop(self, connection_id: ConnectionId) -> None:
        """Drop the unsent beat of a connection whose link has ended."""
        self._unsent.pop(connection_id, None)
        self._ready.pop(connection_id, None)

    def take(self, limit: int) -> list[Message]:
        """Return up to *limit* messages to publish."""
        messages: list[Message] = []
        while self._ready and len(messages) < limit:
            ids = list(self._ready)[:MESSAGE_BEATS]
            items = [json.dumps(self._unsent.pop(id_).beat).encode() for id_ in ids]
            for id_ in ids:
                del self._ready[id_]
            self._in_flight.update(ids)
            handled = partial(self._handled, ids)
            messages.append(Message("connections.heartbeat", batch("beats", items), handled))
        return messages

    def _handled(self, ids: list[ConnectionId]) -> None:
        self._in_flight.difference_update(ids)
        self._ready.update((id_, None) for id_ in ids if id_ in self._unsent)
