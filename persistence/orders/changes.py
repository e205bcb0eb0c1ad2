"""
What has been committed since the last look, by the difference of two snapshots.

A row of `dispatch_event` is new if this snapshot sees it and the one before did not: its transaction began after that
snapshot was taken, or was running in it. So no row is missed that commits late, none is read twice, and neither a
clock nor a long transaction matters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from persistence.orders.session import OrderSession
from persistence.schema.event_types import FOR_GATEWAYS, OF_ATTEMPTS
from persistence.schema.sql import fragment

PAGE_ROWS = 10_000
"""More rows than these are not read: then everything is read anew."""

_COLUMNS = "xid, id, type, connection_id, payload"

_SERVER = """
    -- A standby that was promoted has its primary's identifier, but was started at another time.
    SELECT system_identifier || ' ' || pg_postmaster_start_time() FROM pg_control_system()
"""

_BEGIN = fragment("SELECT ($server), pg_current_snapshot()::text", server=_SERVER)

_DIFFERENCE = fragment(
    """
    WITH changed AS (
        -- Each part is ordered as the primary key and limited, so that it is read from the index. The upper bound
        -- says nothing new, but lets few rows be expected of a table that was never analyzed: else it is read whole.
        (SELECT $columns FROM dispatch_event
          WHERE xid >= pg_snapshot_xmax(%(previous)s::pg_snapshot) AND xid < pg_snapshot_xmax(pg_current_snapshot())
          ORDER BY xid, id LIMIT %(limit)s)
         UNION ALL
        SELECT late.* FROM pg_snapshot_xip(%(previous)s::pg_snapshot) AS running(xid)
         CROSS JOIN LATERAL (
               SELECT $columns FROM dispatch_event
                WHERE xid = running.xid ORDER BY xid, id LIMIT %(limit)s) late
    ), wanted AS (
        SELECT * FROM changed
         WHERE type = ANY (%(types)s)
           AND (type <> ALL (%(of_attempts)s) OR payload ? 'crawler_job_id')
    )
    SELECT ($server), pg_current_snapshot()::text,
           pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(%(previous)s::pg_snapshot) AS is_older,
           (SELECT count(*) FROM changed) AS read, type, connection_id, payload
      FROM (VALUES (1)) one LEFT JOIN wanted ON true
     ORDER BY xid, id
    """,
    columns=_COLUMNS,
    server=_SERVER,
)


class Change(NamedTuple):
    """An event that a gateway may have to act upon."""

    type: str
    connection_id: str | None
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """The changes since the look before, by transaction and, within one, in their order."""

    changes: list[Change]
    resync: str | None
    """Why the changes are not all, so that everything must be read anew; None if they are."""


class Changes:
    """Reads the changes; each one once, or says that it cannot."""

    def __init__(self, session: OrderSession, page_rows: int = PAGE_ROWS) -> None:
        self._session = session
        self._page_rows = page_rows
        self._server = self._snapshot = ""
        self._opened = 0

    async def read(self) -> Difference:
        """
        Read the changes since the last look. Raises DatabaseLost and Contended; the next look then sees the same.

        The first look sees none: what is read after it is no older than the changes that the next look begins with.
        """
        if not self._snapshot:
            return await self._begin("the first look")
        values = {
            "previous": self._snapshot,
            "limit": self._page_rows,
            "types": sorted(FOR_GATEWAYS),
            "of_attempts": sorted(OF_ATTEMPTS),
        }
        rows = await self._session.rows(_DIFFERENCE, values)
        server, snapshot, is_older, read, *_ = rows[0]
        before = (self._server, self._opened)
        self._server, self._snapshot, self._opened = server, snapshot, self._session.opened
        if server != before[0]:
            return Difference([], "another server answers")
        if self._opened != before[1]:
            return Difference([], "the session was lost")
        if is_older:
            return Difference([], "the server has lost transactions")
        if read >= self._page_rows:
            return Difference([], "too much has changed")
        return Difference([Change(*row[4:]) for row in rows if row[4] is not None], None)

    async def _begin(self, why: str) -> Difference:
        rows = await self._session.rows(_BEGIN)
        self._server, self._snapshot = rows[0]
        self._opened = self._session.opened
        return Difference([], why)
