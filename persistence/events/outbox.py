"""Events for the web app: gathered while a unit works, appended by its commit."""

import json
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from persistence.schema.event_types import EventType

CHANNEL = "crawlyard_event"

_APPEND = text("""
    WITH written AS (
        INSERT INTO dispatch_event (type, job_id, account_id, connection_id, payload)
        SELECT e.type, e.job_id, e.account_id, e.connection_id, e.payload
          FROM jsonb_to_recordset(CAST(:events AS jsonb))
               AS e(type text, job_id text, account_id text, connection_id text, payload jsonb)
    )
    SELECT pg_notify(:channel, '') -- one a transaction and without data: it wakes readers
""")


@dataclass(frozen=True)
class _Event:
    type: EventType
    job_id: str | None
    account_id: str | None
    connection_id: str | None
    payload: dict[str, Any] = field(default_factory=dict)


class Events:
    """What this unit of work tells the web app."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._events: list[_Event] = []

    def add(
        self,
        type: EventType,  # noqa: A002 - the column's name
        *,
        job_id: str | None = None,
        account_id: str | None = None,
        connection_id: str | None = None,
        **payload: Any,
    ) -> None:
        """Note an event; it is written with the commit, in the order of the notes."""
        self._events.append(_Event(type, job_id, account_id, connection_id, payload))

    def write(self) -> None:
        """Append what was noted, and wake the readers."""
        if self._events:
            events = json.dumps([vars(event) for event in self._events])
            self._session.execute(_APPEND, {"events": events, "channel": CHANNEL})
            self._events.clear()

    def mark(self) -> int:
        """Where we stand, for `reset`."""
        return len(self._events)

    def reset(self, mark: int) -> None:
        """Forget what was noted since *mark*."""
        del self._events[mark:]
