"""
Reads events in pages, in the order of (xid, id), below the oldest transaction that is still running.

A transaction that commits late has a lower xid than transactions that committed before it. Events at or above
`pg_snapshot_xmin` are therefore not read yet, so that no event appears before a cursor that has passed its place.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from persistence.db.session import in_schema
from persistence.db.sqlstate import translate_errors
from persistence.events.cursor import BEGINNING, NOW, EventCursor
from persistence.schema.sql import fragment

PAGE_ROWS = 1000
"""Rows that one page reads, whether they match the filter or not."""

_EDGE = """
    -- An edge ahead of this cluster came with a dump of another cluster: nothing was trimmed here yet.
    SELECT control.system_identifier::text AS cluster,
           COALESCE(trimmed_xid, '0') AS xid, COALESCE(trimmed_id, 0) AS id
      FROM pg_control_system() control
      LEFT JOIN event_edge ON trimmed_xid < pg_snapshot_xmax(pg_current_snapshot())
"""

_PAGE = fragment(
    """
    -- Edge and rows are read in one snapshot, so that a trim in between cannot hide a gap.
    WITH edge AS ($edge),
    gap AS (
        SELECT cluster <> %(cluster)s OR (%(xid)s::xid8, %(id)s::bigint) < (xid, id)
               OR %(xid)s::xid8 >= pg_snapshot_xmax(pg_current_snapshot()) AS there_is
          FROM edge
    ),
    head AS (
        SELECT * FROM dispatch_event
         WHERE NOT (SELECT there_is FROM gap) AND (xid, id) > (%(xid)s::xid8, %(id)s::bigint)
         ORDER BY xid, id LIMIT %(limit)s
    ),
    -- As a second bound in `head` it would look so selective, if the table was never analyzed, that the planner
    -- would read and sort all rows after the cursor for each page.
    seen AS (SELECT * FROM head WHERE xid < pg_snapshot_xmin(pg_current_snapshot())),
    -- The cursor also advances past rows that do not match, so that they are read once.
    last AS (SELECT xid, id FROM seen ORDER BY xid DESC, id DESC LIMIT 1),
    wanted AS (
        SELECT * FROM seen
         WHERE (%(account)s::text IS NULL OR account_id = %(account)s)
           AND (%(jobs)s::text[] IS NULL OR job_id = ANY (%(jobs)s))
           AND (%(types)s::text[] IS NULL OR type = ANY (%(types)s))
    )
    SELECT edge.cluster, gap.there_is AS gap, edge.xid::text AS edge_xid, edge.id AS edge_id,
           last.xid::text AS last_xid, last.id AS last_id, (SELECT count(*) FROM seen) AS seen,
           -- Only the last event is tested: a search for any would read a table that was never analyzed to its end.
           (SELECT newest.xid >= pg_snapshot_xmin(pg_current_snapshot()) FROM dispatch_event newest
             ORDER BY newest.xid DESC, newest.id DESC LIMIT 1) AS held_back,
           wanted.xid::text, wanted.id, wanted.type, wanted.job_id, wanted.account_id,
           wanted.connection_id, wanted.payload, wanted.created_at
      FROM edge CROSS JOIN gap LEFT JOIN last ON true LEFT JOIN wanted ON true
     ORDER BY wanted.xid, wanted.id
    """,
    edge=_EDGE,
)

_START = fragment("SELECT cluster, edge.xid::text, id FROM ($edge) edge", edge=_EDGE)

_END = """
    SELECT event.xid::text, id FROM dispatch_event event
     WHERE event.xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY event.xid DESC, id DESC LIMIT 1
"""


@dataclass(frozen=True)
class EventFilter:
    """Selects events that match every given criterion; None matches all."""

    account_id: str | None = None
    job_ids: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Event:
    """An event, and the cursor from which reading continues after it."""

    cursor: EventCursor
    type: str
    job_id: str | None
    account_id: str | None
    connection_id: str | None
    payload: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class Gap:
    """
    Events may have been missed; reading continues after *cursor*, with the oldest event that is kept.

    This happens if events after the reader's cursor were deleted, if the cursor belongs to another cluster, or if it
    is ahead of this cluster, which was then restored to an earlier state. The reader must read the tables again.
    """

    cursor: EventCursor


@dataclass(frozen=True)
class Page:
    """The result of one read, oldest first."""

    items: list[Event | Gap]
    cursor: EventCursor
    """The next page begins after it."""
    is_full: bool
    """True if more rows may be readable already."""
    is_held_back: bool
    """True if a running transaction holds committed events back. Its end may send no notification."""


class EventReader:
    """Reads events on a connection in autocommit mode."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        matching: EventFilter | None = None,
        page_rows: int = PAGE_ROWS,
    ) -> None:
        self._connection = connection
        self._matching = matching or EventFilter()
        self._page_rows = page_rows

    def start(self, point: EventCursor | str) -> EventCursor:
        """The cursor for `now` or `beginning`; a cursor is returned as it is."""
        if isinstance(point, EventCursor):
            return point
        assert point in (BEGINNING, NOW)
        with translate_errors(), in_schema(self._connection):
            ((cluster, *edge),) = self._connection.execute(_START).fetchall()
            end = self._connection.execute(_END).fetchone() if point == NOW else None
        xid, id_ = end or edge
        return EventCursor(cluster, int(xid), id_)

    def page(self, after: EventCursor) -> Page:
        """Read at most *page_rows* rows after a cursor. A gap is a page of its own."""
        wanted = {"account": self._matching.account_id, "limit": self._page_rows} | {
            name: None if values is None else list(values)
            for name, values in (("jobs", self._matching.job_ids), ("types", self._matching.types))
        }
        place = {"cluster": after.cluster, "xid": str(after.xid), "id": after.id}
        with (
            translate_errors(),
            in_schema(self._connection),
            self._connection.cursor(row_factory=dict_row) as cursor,
        ):
            rows = cursor.execute(_PAGE, place | wanted).fetchall()
        return self._parse_page(after, rows)

    def read(self, after: EventCursor) -> Iterator[Event | Gap]:
        """Everything that can be read now, page by page."""
        while True:
            page = self.page(after)
            yield from page.items
            after = page.cursor
            if not page.is_full:
                return

    def _parse_page(self, after: EventCursor, rows: list[DictRow]) -> Page:
        head = rows[0]
        if head["gap"]:
            edge = EventCursor(head["cluster"], int(head["edge_xid"]), head["edge_id"])
            return Page([Gap(edge)], edge, is_full=True, is_held_back=False)
        events: list[Event | Gap] = [_event(row) for row in rows if row["xid"] is not None]
        last = EventCursor(head["cluster"], int(head["last_xid"]), head["last_id"]) if head["seen"] else after
        return Page(events, last, head["seen"] == self._page_rows, bool(head["held_back"]))


def _event(row: DictRow) -> Event:
    return Event(
        EventCursor(row["cluster"], int(row["xid"]), row["id"]),
        *(row[name] for name in ("type", "job_id", "account_id", "connection_id", "payload", "created_at")),
    )
