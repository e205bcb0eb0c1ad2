"""
Events for readers: pages in the order of (xid, id), below the oldest transaction that still runs.

A transaction that commits late has an older xid than others that were read already would have; so
nothing is read at or above `pg_snapshot_xmin`, and no row ever appears behind a cursor.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from persistence.db.sqlstate import translate_errors
from persistence.events.cursor import BEGINNING, NOW, EventCursor

PAGE_ROWS = 1000
"""Rows that one page looks at, whether they are wanted or not."""

_EDGE = """
    -- An edge ahead of this cluster came with a dump of another one: here nothing was trimmed yet.
    SELECT control.system_identifier::text AS cluster,
           COALESCE(trimmed_xid, '0') AS xid, COALESCE(trimmed_id, 0) AS id
      FROM pg_control_system() control
      LEFT JOIN event_edge ON trimmed_xid < pg_snapshot_xmax(pg_current_snapshot())
"""

_PAGE = f"""
    -- Edge and rows are of one snapshot: what is trimmed a moment later cannot be missed unsaid.
    WITH edge AS ({_EDGE}),
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
    -- A second bound beside the first would look so selective, where nobody has analyzed the table, that
    -- all rows behind the cursor were read and sorted for each page.
    seen AS (SELECT * FROM head WHERE xid < pg_snapshot_xmin(pg_current_snapshot())),
    -- The cursor passes what nobody wants, too: an idle filter does not read it twice.
    last AS (SELECT xid, id FROM seen ORDER BY xid DESC, id DESC LIMIT 1),
    wanted AS (
        SELECT * FROM seen
         WHERE (%(account)s::text IS NULL OR account_id = %(account)s)
           AND (%(jobs)s::text[] IS NULL OR job_id = ANY (%(jobs)s))
           AND (%(types)s::text[] IS NULL OR type = ANY (%(types)s))
    )
    SELECT edge.cluster, gap.there_is AS gap, edge.xid::text AS edge_xid, edge.id AS edge_id,
           last.xid::text AS last_xid, last.id AS last_id, (SELECT count(*) FROM seen) AS seen,
           -- By the last one alone: a search for any would read a table that was never analyzed to its end.
           (SELECT newest.xid >= pg_snapshot_xmin(pg_current_snapshot()) FROM dispatch_event newest
             ORDER BY newest.xid DESC, newest.id DESC LIMIT 1) AS held_back,
           wanted.xid::text, wanted.id, wanted.type, wanted.job_id, wanted.account_id,
           wanted.connection_id, wanted.payload, wanted.created_at
      FROM edge CROSS JOIN gap LEFT JOIN last ON true LEFT JOIN wanted ON true
     ORDER BY wanted.xid, wanted.id
"""  # noqa: S608 - both parts are ours

_START = f"SELECT cluster, edge.xid::text, id FROM ({_EDGE}) edge"  # noqa: S608 - as above

_END = """
    SELECT event.xid::text, id FROM dispatch_event event
     WHERE event.xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY event.xid DESC, id DESC LIMIT 1
"""


@dataclass(frozen=True)
class EventFilter:
    """What a reader wants; None is all."""

    account_id: str | None = None
    job_ids: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Event:
    """What happened, and where reading goes on after it."""

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
    Events may have been missed; reading goes on after *cursor*, with all that is kept.

    So it is where a cursor is behind what was deleted, is of another cluster, or is ahead of this
    one, which was set back. Who sees it looks at the tables anew.
    """

    cursor: EventCursor


@dataclass(frozen=True)
class Page:
    """What was read in one go, oldest first."""

    items: list[Event | Gap]
    cursor: EventCursor
    """Where the next page begins."""
    is_full: bool
    """Whether more may be there already."""
    is_held_back: bool
    """Whether events are committed that a running transaction keeps back; its end rings no bell."""


class EventReader:
    """Reads events by a connection in autocommit mode."""

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
        """The cursor that stands for `now` or `beginning`; a cursor stands for itself."""
        if isinstance(point, EventCursor):
            return point
        assert point in (BEGINNING, NOW)
        with translate_errors():
            ((cluster, *edge),) = self._connection.execute(_START).fetchall()
            end = self._connection.execute(_END).fetchone() if point == NOW else None
        xid, id_ = end or edge
        return EventCursor(cluster, int(xid), id_)

    def page(self, after: EventCursor) -> Page:
        """What comes after a cursor: at most so many rows are looked at. A gap is a page of its own."""
        wanted = {"account": self._matching.account_id, "limit": self._page_rows} | {
            name: None if values is None else list(values)
            for name, values in (("jobs", self._matching.job_ids), ("types", self._matching.types))
        }
        place = {"cluster": after.cluster, "xid": str(after.xid), "id": after.id}
        with translate_errors(), self._connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(_PAGE, place | wanted).fetchall()
        return self._parse_page(after, rows)

    def read(self, after: EventCursor) -> Iterator[Event | Gap]:
        """All that can be read now, page by page."""
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
