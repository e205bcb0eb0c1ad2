"""Events for the web app, collected by a unit of work and written by its commit."""

import json
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from persistence.schema.event_types import EventType, concerns_gateways

CHANNEL = "crawlyard_event"

_APPEND = text("""
    WITH written AS (
        INSERT INTO dispatch_event (type, job_id, account_id, connection_id, payload)
        SELECT type, job_id, account_id, connection_id, payload
          FROM jsonb_populate_recordset(NULL::dispatch_event, CAST(:events AS jsonb))
    )
    SELECT pg_notify(:channel, '') -- one for each transaction, without data: it only wakes readers up
""")


@dataclass(frozen=True)
class _Event:
    type: EventType
    job_id: str | None
    account_id: str | None
    connection_id: str | None
    payload: dict[str, Any] = field(default_factory=dict)


class Events:
    """The events that this unit of work writes for the web app."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._events: list[_Event] = []
        self.concern_gateways = False
        """True if a gateway may have to act upon one of those that were written."""

    def add(
        self,
        type: EventType,  # noqa: A002 - the column's name
        *,
        job_id: str | None = None,
        account_id: str | None = None,
        connection_id: str | None = None,
        **payload: Any,
    ) -> None:
        """Note an event; the commit writes all of them in the order they were noted."""
        self._events.append(_Event(type, job_id, account_id, connection_id, payload))

    def write(self) -> None:
        """Write the noted events, and wake readers up."""
        if self._events:
            events = json.dumps([vars(event) for event in self._events])
            self._session.execute(_APPEND, {"events": events, "channel": CHANNEL})
            self.concern_gateways |= any(
                concerns_gateways(event.type, event.payload) for event in self._events
            )
            self._events.clear()

    def mark(self) -> int:
        """The current position, for `reset`."""
        return len(self._events)

    def reset(self, mark: int) -> None:
        """Discard the events noted since *mark*."""
        del self._events[mark:]
