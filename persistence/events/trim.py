"""Deletes old events from the head of the table, and records in event_edge how far, for readers."""

from collections.abc import Collection
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from persistence.schema.ids import AccountId

_LOCK_EDGE = text("""
    -- No row if the clean-up of another worker is trimming now.
    SELECT trimmed_xid >= pg_snapshot_xmax(pg_current_snapshot()) FROM event_edge
       FOR NO KEY UPDATE SKIP LOCKED
""")

_RESET = text("UPDATE event_edge SET trimmed_xid = '0', trimmed_id = 0")

_DELETE_FOREIGN = text("""
    -- Events from a dump of another cluster: readers would get them once this cluster's ids have come that far.
    DELETE FROM dispatch_event WHERE (xid, id) IN (
        SELECT xid, id FROM dispatch_event WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())
         ORDER BY xid, id LIMIT :limit
    )
""")

_TRIM = text("""
    WITH newest AS (SELECT id FROM dispatch_event ORDER BY xid DESC, id DESC LIMIT 1),
    head AS (
        -- Limited first, then tested for age, which has no index. Events at or above the oldest running transaction
        -- stay: what commits later must be after the edge, or a reader would get a gap.
        SELECT xid, id, is_past, xid < pg_snapshot_xmin(pg_current_snapshot())
                                 -- Ids are given in turn, with gaps: there are no more events than ids.
                                 AND (is_past OR id <= (SELECT max(id) FROM newest) - :most) AS is_old
          FROM (SELECT xid, id, created_at < clock_timestamp() - CAST(:keep AS interval) AS is_past
                  FROM dispatch_event) event
         WHERE (xid, id) > ((SELECT trimmed_xid FROM event_edge), (SELECT trimmed_id FROM event_edge))
         ORDER BY xid, id LIMIT :limit
    ),
    -- Only up to the first event that is recent, so that none before the edge is left.
    old AS (
        SELECT * FROM (SELECT xid, id, is_past, bool_and(is_old) OVER (ORDER BY xid, id) AS goes FROM head) h WHERE goes
    ),
    deleted AS (
        DELETE FROM dispatch_event event USING old WHERE event.xid = old.xid AND event.id = old.id
        RETURNING event.xid, event.id, old.is_past
    ),
    last AS (SELECT xid, id FROM deleted ORDER BY xid DESC, id DESC LIMIT 1),
    moved AS (UPDATE event_edge SET trimmed_xid = last.xid, trimmed_id = last.id FROM last)
    SELECT count(*) AS deleted, count(*) FILTER (WHERE NOT is_past) AS beyond_bound FROM deleted
""")


_DELETE_EVENTS = text("""
    -- A page of all events at a time, in the order of the primary key: there is no index by account.
    WITH page AS (
        SELECT xid, id, account_id FROM dispatch_event
         WHERE (xid, id) > (CAST(:xid AS xid8), :id) ORDER BY xid, id LIMIT :limit
    ), deleted AS (
        DELETE FROM dispatch_event event USING page
         WHERE event.xid = page.xid AND event.id = page.id AND page.account_id = ANY (CAST(:ids AS text[]))
        RETURNING event.id
    )
    SELECT xid::text AS xid, id, (SELECT count(*) FROM deleted) AS deleted
      FROM page ORDER BY page.xid DESC, page.id DESC LIMIT 1
""")


class EventsPage(NamedTuple):
    """Where a page of events ended, and how many of it were deleted."""

    xid: str
    id: int
    deleted: int


class TrimmedEvents(NamedTuple):
    """How many events were deleted, and how many of them before their time, since there were too many."""

    deleted: int = 0
    beyond_bound: int = 0


def trim_events(session: Session, older_than: timedelta, limit: int, most: int) -> TrimmedEvents:
    """
    Delete at most *limit* events older than *older_than*, oldest first, and move the edge; the numbers deleted.

    Beyond the *most* newest events, younger ones are deleted too.

    Deletes nothing while another worker is trimming.
    """
    is_foreign = session.scalars(_LOCK_EDGE).first()
    if is_foreign is None:
        return TrimmedEvents()
    if is_foreign:
        session.execute(_RESET)
    session.execute(_DELETE_FOREIGN, {"limit": limit})
    return TrimmedEvents(*session.execute(_TRIM, {"keep": older_than, "limit": limit, "most": most}).one())


def delete_events_of(
    session: Session, ids: Collection[AccountId], after: tuple[str, int], limit: int
) -> EventsPage | None:
    """
    Delete the events of these accounts among the next *limit* events; None if there are no more events.

    The edge stays: a reader misses nothing but what is about accounts that are gone.
    """
    xid, id_ = after
    values = {"ids": list(ids), "xid": xid, "id": id_, "limit": limit}
    row = session.execute(_DELETE_EVENTS, values).one_or_none()
    return None if row is None else EventsPage(*row)
