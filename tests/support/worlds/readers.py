"""Writers and readers of events, with transactions that a test keeps open."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from persistence.events.cursor import BEGINNING, EventCursor
from persistence.events.stream import Event, EventFilter, EventReader, Gap
from support.processes.workers import wait_until

_APPEND = """
    INSERT INTO dispatch_event (type, job_id, account_id, created_at)
    SELECT %s, job_id, %s, now() - make_interval(days => %s) FROM unnest(%s::text[]) job_id
"""


class Writer:
    """A session whose transaction stays open until the test commits it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def append(
        self, *job_ids: str, kind: str = "job_updated", account: str | None = None, days_ago: int = 0
    ) -> None:
        """Append an event for each job, like a unit of work but without NOTIFY."""
        self._connection.execute(_APPEND, [kind, account, days_ago, list(job_ids)])

    def notify(self) -> None:
        """NOTIFY with the commit."""
        self._connection.execute("NOTIFY crawlyard_event")

    def commit(self) -> None:
        """Commit."""
        self._connection.commit()


@contextmanager
def writer(database: str) -> Iterator[Writer]:
    """Open a session; its uncommitted events are rolled back."""
    with psycopg.connect(database) as connection:
        yield Writer(connection)
        connection.rollback()


def append(database: str, *job_ids: str, **event: Any) -> None:
    """Append and commit events, without NOTIFY."""
    with writer(database) as session:
        session.append(*job_ids, **event)
        session.commit()


class Reader:
    """A reader that keeps its cursor and asserts that no event is read twice."""

    def __init__(self, connection: psycopg.Connection[Any], matching: EventFilter, page_rows: int) -> None:
        self.events = EventReader(connection, matching, page_rows)
        self.cursor = self.events.start(BEGINNING)

    def start(self, point: EventCursor | str) -> None:
        """Continue from another cursor."""
        self.cursor = self.events.start(point)

    def read(self) -> list[str | None]:
        """The jobs of the events that are readable now; `gap` for a gap."""
        found: list[str | None] = []
        while True:
            page = self.events.page(self.cursor)
            self.cursor = page.cursor
            found += [named(item) for item in page.items]
            if not page.is_full:
                return found

    def until(self, *job_ids: str) -> None:
        """Read until exactly these were read; other sessions of the cluster may delay events briefly."""
        found: list[str | None] = []

        def all_read() -> bool:
            found.extend(self.read())
            return len(found) >= len(job_ids)

        wait_until(all_read, f"{job_ids} can be read")
        assert found == list(job_ids)


@contextmanager
def reader(database: str, matching: EventFilter | None = None, page_rows: int = 1000) -> Iterator[Reader]:
    """A reader that starts at the beginning."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield Reader(connection, matching or EventFilter(), page_rows)


def named(item: Event | Gap) -> str | None:
    """The job of an event, or `gap`."""
    return "gap" if isinstance(item, Gap) else item.job_id
