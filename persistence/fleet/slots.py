"""
The slots of connections: which attempts are live on each, and which jobs its crawler reports.

All rows to write are locked by the caller, except in `lock_free`.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from persistence.schema.ids import ConnectionId, CrawlerJobId
from persistence.schema.sql import sql
from persistence.settings import settings

_LOCK_FREE = sql("""
    SELECT id, LEAST(capacity, :max_capacity) AS capacity,
           GREATEST(jsonb_array_length(active_jobs), reported) AS used
      FROM socket_connection
     WHERE is_active AND goodbye_at IS NULL AND lost_at IS NULL
       AND LEAST(capacity, :max_capacity) > GREATEST(jsonb_array_length(active_jobs), reported)
       -- a suspect job stays alone on its connection: it may be what kills its crawlers
       AND NOT active_jobs ?| ARRAY (
               -- read from the suspects, whatever the statistics say: they are few, and live attempts are many
               SELECT a.crawler_job_id
                 FROM (SELECT web_app_job_id FROM job_queue
                        WHERE status = $entry_processing AND losses >= $suspect_losses OFFSET 0) q
                CROSS JOIN LATERAL (
                      SELECT crawler_job_id FROM job_assignment_mapping
                       WHERE web_app_job_id = q.web_app_job_id AND $live OFFSET 0) a)
     ORDER BY GREATEST(jsonb_array_length(active_jobs), reported), id
     LIMIT :limit
       FOR NO KEY UPDATE SKIP LOCKED
""")

_MISCOUNTED = sql("""
    SELECT c.id FROM socket_connection c
      LEFT JOIN (SELECT connection_id, count(*) AS jobs FROM job_assignment_mapping
                  WHERE $live GROUP BY connection_id) live
             ON live.connection_id = c.id
     WHERE c.is_active AND jsonb_array_length(c.active_jobs) <> COALESCE(live.jobs, 0)
     ORDER BY c.id LIMIT :limit
""")

_PLACES = """
    places AS MATERIALIZED (
        -- The ctids of rows that the caller has locked, so they cannot change. All ids at once read each page once;
        -- looked up one by one, each id reads every version that its row has had since the last vacuum.
        SELECT ctid AS place, id FROM socket_connection WHERE id = ANY (CAST(:ids AS text[])) AND is_active
    )
"""

_OCCUPY = sql(
    """
    WITH $places
    UPDATE socket_connection c SET active_jobs = c.active_jobs || taken.fences
      FROM places JOIN jsonb_to_recordset(CAST(:rows AS jsonb)) AS taken(id text, fences jsonb) USING (id)
     WHERE c.ctid = places.place
    """,
    places=_PLACES,
)

_FREE = sql(
    """
    WITH $places, freed AS (
        SELECT id, ARRAY (SELECT jsonb_array_elements_text(fences)) AS fences,
               ARRAY (SELECT jsonb_array_elements_text(ended)) AS ended, done
          FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(id text, fences jsonb, ended jsonb, done int)
    )
    UPDATE socket_connection c
       SET active_jobs = c.active_jobs - freed.fences,
           reported_jobs = c.reported_jobs - freed.ended,
           reported = CASE WHEN jsonb_typeof(c.reported_jobs) = 'array'
                           THEN jsonb_array_length(c.reported_jobs - freed.ended)
                           ELSE GREATEST(c.reported - freed.done, 0) END,
           -- a time in the future was written before the database's clock was set back
           ends_from = CASE WHEN $is_counting THEN c.ends_from ELSE clock_timestamp() END,
           ends = CASE WHEN $is_counting THEN c.ends ELSE 0 END + freed.done
      FROM places JOIN freed USING (id)
     WHERE c.ctid = places.place
    RETURNING c.id, c.ends > c.capacity + :most_ends AS is_implausible
    """,
    places=_PLACES,
    is_counting="c.ends_from BETWEEN clock_timestamp() - CAST(:ends_window AS interval) AND clock_timestamp()",
)

_REPORT_IMPLAUSIBLE = sql("""
    UPDATE socket_connection SET implausible_at = clock_timestamp()
     WHERE id = ANY (CAST(:ids AS text[]))
       AND COALESCE(implausible_at < clock_timestamp() - CAST(:pause AS interval)
                    OR implausible_at > clock_timestamp(), true)
    RETURNING id, ends
""")

ENDS_WINDOW = timedelta(seconds=10)
"""For so long the ended attempts of a connection are counted, then again from 0."""

_REPORT_PAUSE = timedelta(hours=1)
"""A connection is not reported again for this long."""

_RECOUNT = sql("""
    UPDATE socket_connection c
       SET active_jobs = COALESCE(
               (SELECT jsonb_agg(a.crawler_job_id ORDER BY a.crawler_job_id)
                  FROM job_assignment_mapping a
                 WHERE a.connection_id = c.id AND a.$live), '[]')
     WHERE c.id = ANY (CAST(:ids AS text[])) AND c.is_active
""")


Slot = tuple[ConnectionId, CrawlerJobId]
"""An attempt, and the connection that works on it."""


@dataclass(frozen=True)
class ConnectionSlots:
    """A locked connection with free slots."""

    connection_id: ConnectionId
    capacity: int
    used: int
    """The number of live attempts, or of jobs that the crawler reports if that is greater."""


class Slots:
    """The columns of `socket_connection` that say what a connection works on."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_free(self, limit: int) -> list[ConnectionSlots]:
        """Lock at most *limit* connections with free slots that are not locked elsewhere, the least used first."""
        values = {"limit": limit, "max_capacity": settings().max_capacity}
        rows = self._session.execute(_LOCK_FREE, values).all()
        return [ConnectionSlots(row.id, row.capacity, row.used) for row in rows]

    def occupy(self, slots: Iterable[Slot]) -> None:
        """Add new attempts to connections that the caller has locked."""
        slots_by_connection = _by_connection(slots)
        rows = [{"id": id_, "fences": fences} for id_, fences in slots_by_connection.items()]
        self._session.execute(_OCCUPY, {"ids": [*slots_by_connection], "rows": json.dumps(rows)})

    def free(self, freed: Collection[Slot], reported_ended: Iterable[Slot] = ()) -> dict[ConnectionId, int]:
        """
        Remove ended attempts from connections that the caller has locked.

        Returns the connections whose crawlers end implausibly many attempts, with their number in ENDS_WINDOW; each
        once an hour. A crawler may always end all that it has at once, as after a delay of ours, so only what
        exceeds its capacity counts.

        *reported_ended* are the attempts whose crawler itself reports the end, revoked or not. They leave the list
        of jobs that the crawler reported; if it reported a count, that is lowered by those that are also *freed*.
        """
        fences, ended = _by_connection(freed), _by_connection(reported_ended)
        rows = [
            {
                "id": id_,
                "fences": fences[id_],
                "ended": ended[id_],
                "done": len(set(fences[id_]) & set(ended[id_])),
            }
            for id_ in sorted(fences.keys() | ended.keys())
        ]
        if not rows:
            return {}
        values = {
            "ids": [row["id"] for row in rows],
            "rows": json.dumps(rows),
            "ends_window": ENDS_WINDOW,
            "most_ends": settings().max_end_rate * ENDS_WINDOW.total_seconds(),
        }
        implausible = [id_ for id_, is_implausible in self._session.execute(_FREE, values) if is_implausible]
        if not implausible:
            return {}
        reported = self._session.execute(_REPORT_IMPLAUSIBLE, {"ids": implausible, "pause": _REPORT_PAUSE})
        return {row.id: row.ends for row in reported}

    def miscounted(self, limit: int) -> list[ConnectionId]:
        """Return connections whose active_jobs differ from their live attempts, as after a deletion by the web app."""
        return list(self._session.scalars(_MISCOUNTED, {"limit": limit}))

    def recount(self, ids: Collection[ConnectionId]) -> None:
        """Set active_jobs to the live attempts of these connections, which the caller has locked."""
        self._session.execute(_RECOUNT, {"ids": list(ids)})


def _by_connection(slots: Iterable[Slot]) -> defaultdict[ConnectionId, list[CrawlerJobId]]:
    fences = defaultdict(list)
    for connection_id, fence in slots:
        fences[connection_id].append(fence)
    return fences
