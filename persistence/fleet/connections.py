"""Connections of crawlers. Heartbeats and disconnects only leave marks on them; only the sweep closes one."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import func, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from persistence.fleet.silence import FleetCounts, is_closable, is_silent
from persistence.sanitize.json_values import redact
from persistence.schema.ids import ConnectionId, CrawlerJobId
from persistence.schema.sql import among, sql
from persistence.schema.tables import SocketConnection
from persistence.settings import settings

_NOW = func.clock_timestamp()
_UNSYNCHRONIZED = {"synchronize_session": False}
"""No session holds mapped objects: there is nothing to bring up to date with what a statement changed."""

_TOUCH = (
    update(SocketConnection)
    .where(among(SocketConnection.id), SocketConnection.is_active)
    .values(last_heartbeat=func.greatest(SocketConnection.last_heartbeat, _NOW))
    .returning(SocketConnection.id)
    .execution_options(**_UNSYNCHRONIZED)
)

_RECORD_HEARTBEATS = sql("""
    WITH beat AS (
        SELECT * FROM jsonb_to_recordset(CAST(:beats AS jsonb))
            AS b(connection_id text, system_status text, reported int, reported_jobs jsonb, capacity int)
    ), locked AS (
        -- in order: two workers that lock in the order of their messages deadlock
        SELECT id, last_heartbeat FROM socket_connection
         WHERE id = ANY (CAST(:ids AS text[])) AND is_active
         ORDER BY id FOR NO KEY UPDATE
    ), news AS (
        -- found before the row is looked up again: most frames only prove that their crawler is alive
        SELECT beat.* FROM locked JOIN beat ON beat.connection_id = locked.id
         WHERE locked.last_heartbeat < clock_timestamp() - CAST(:step AS interval)
            OR num_nonnulls(beat.system_status, beat.capacity, beat.reported) > 0
    ), changed AS (
        UPDATE socket_connection c
           SET last_heartbeat = GREATEST(c.last_heartbeat, clock_timestamp()),
               system_status = COALESCE(news.system_status, c.system_status),
               capacity = COALESCE(news.capacity, c.capacity),
               reported = COALESCE(news.reported, c.reported),
               reported_jobs = CASE WHEN news.reported IS NULL THEN c.reported_jobs ELSE news.reported_jobs END,
               reported_at = CASE WHEN news.reported IS NULL THEN c.reported_at ELSE clock_timestamp() END
          FROM news WHERE c.id = news.connection_id
    )
    SELECT id FROM locked
""")

_FUTURE_HEARTBEATS = (
    select(SocketConnection.id)
    .where(SocketConnection.is_active, SocketConnection.last_heartbeat > _NOW)
    .order_by(SocketConnection.id)
    .with_for_update(key_share=True)
)

_SET_HEARTBEAT_TO_NOW = (
    update(SocketConnection)
    .where(among(SocketConnection.id))
    .values(last_heartbeat=_NOW)
    .execution_options(**_UNSYNCHRONIZED)
)

_CLOSED_AMONG = select(SocketConnection.id).where(among(SocketConnection.id), ~SocketConnection.is_active)

_MARK_DISCONNECTED = (
    update(SocketConnection)
    .where(among(SocketConnection.id), SocketConnection.is_active, SocketConnection.goodbye_at.is_(None))
    .values(goodbye_at=_NOW)
    .returning(SocketConnection.id)
    .execution_options(**_UNSYNCHRONIZED)
)

_ACTIVE = (
    select(SocketConnection.id)
    .where(among(SocketConnection.id), SocketConnection.is_active)
    .order_by(SocketConnection.id)
)
_LOCK = _ACTIVE.with_for_update(key_share=True)
_LOCK_SKIPPING = _ACTIVE.with_for_update(key_share=True, skip_locked=True)

_CLOSE = (
    update(SocketConnection)
    .where(among(SocketConnection.id), SocketConnection.is_active)
    .values(is_active=False, closed_at=_NOW, active_jobs=[])
    .execution_options(**_UNSYNCHRONIZED)
)

_LOCK_WITH_FREE_SLOTS = sql("""
    SELECT id, capacity, GREATEST(jsonb_array_length(active_jobs), reported) AS used
      FROM socket_connection
     WHERE is_active AND goodbye_at IS NULL
       AND capacity > GREATEST(jsonb_array_length(active_jobs), reported)
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

_OCCUPY_SLOTS = sql(
    """
    WITH $places
    UPDATE socket_connection c SET active_jobs = c.active_jobs || taken.fences
      FROM places JOIN jsonb_to_recordset(CAST(:rows AS jsonb)) AS taken(id text, fences jsonb) USING (id)
     WHERE c.ctid = places.place
    """,
    places=_PLACES,
)

_FREE_SLOTS = sql(
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
                           ELSE GREATEST(c.reported - freed.done, 0) END
      FROM places JOIN freed USING (id)
     WHERE c.ctid = places.place
    """,
    places=_PLACES,
)

_RECOUNT_SLOTS = sql("""
    UPDATE socket_connection c
       SET active_jobs = COALESCE(
               (SELECT jsonb_agg(a.crawler_job_id ORDER BY a.crawler_job_id)
                  FROM job_assignment_mapping a
                 WHERE a.connection_id = c.id AND a.$live), '[]')
     WHERE c.id = ANY (CAST(:ids AS text[])) AND c.is_active
""")


@dataclass(frozen=True)
class Beat:
    """What one or several heartbeats of a connection report. None: not reported."""

    connection_id: ConnectionId
    system_status: str | None = None
    reported: int | None = None
    reported_jobs: list[str] | None = None
    capacity: int | None = None

    def merged_with(self, later: "Beat") -> "Beat":
        """Merge two: each later value replaces the earlier one. A count and a list of jobs replace each other."""
        reported = self if later.reported is None else later
        return Beat(
            self.connection_id,
            system_status=later.system_status or self.system_status,
            reported=reported.reported,
            reported_jobs=reported.reported_jobs,
            capacity=self.capacity if later.capacity is None else later.capacity,
        )


Slot = tuple[ConnectionId, CrawlerJobId]
"""An attempt, and the connection that works on it."""


@dataclass(frozen=True)
class ConnectionSlots:
    """A locked connection with free slots."""

    connection_id: ConnectionId
    capacity: int
    used: int
    """The number of live attempts, or of jobs that the crawler reports if that is greater."""


class Connections:
    """The table `socket_connection`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def register(
        self,
        connection_id: ConnectionId,
        crawler_id: str | None,
        capacity: int,
        metadata: dict[str, Any] | None,
    ) -> Literal["registered", "live", "closed"]:
        """
        Open a connection.

        Returns `live` if it was open already. That proves that it is alive: a gateway that repeats a registration
        does not see the row yet, and sends no heartbeat before. Returns `closed` if the id was used before.
        """
        row = {
            SocketConnection.id: connection_id,
            SocketConnection.crawler_id: crawler_id,
            SocketConnection.capacity: capacity,
            SocketConnection.details: null() if metadata is None else redact(metadata),
            SocketConnection.last_heartbeat: _NOW,
        }
        new = insert(SocketConnection).values(row).on_conflict_do_nothing().returning(SocketConnection.id)
        if self._session.scalars(new).one_or_none():
            return "registered"
        return "live" if self._session.scalars(_TOUCH, {"ids": [connection_id]}).one_or_none() else "closed"

    def record_heartbeats(self, beats: Collection[Beat]) -> set[ConnectionId]:
        """
        Record that connections are alive, one beat each, and lock them. last_heartbeat only moves forward.

        A beat that reports nothing is written at most once per `heartbeat_resolution`: each write leaves a version
        of the row, and under a snapshot that is held open every lookup reads all of them.

        Returns the active connections; nothing changes on the others.
        """
        rows = json.dumps([vars(beat) for beat in beats])
        ids = [beat.connection_id for beat in beats]
        values = {"beats": rows, "ids": ids, "step": settings().heartbeat_resolution}
        return set(self._session.scalars(_RECORD_HEARTBEATS, values))

    def clamp_future_heartbeats(self) -> None:
        """
        Set heartbeats in the future to now, after the database's clock was set back.

        Otherwise a crawler that died would count as alive until the clock is there again.
        """
        if ids := list(self._session.scalars(_FUTURE_HEARTBEATS)):
            self._session.execute(_SET_HEARTBEAT_TO_NOW, {"ids": ids})

    def closed_among(self, ids: Iterable[ConnectionId]) -> set[ConnectionId]:
        """Return those of the connections that are closed; the rest of the inactive ones never registered."""
        return set(self._session.scalars(_CLOSED_AMONG, {"ids": list(ids)}))

    def mark_disconnected(self, connection_id: ConnectionId) -> bool:
        """
        Mark a connection as disconnected: it gets no new jobs, and the next sweep requeues those it has.

        Returns False if it was marked already, or is not active.
        """
        return self._session.scalars(_MARK_DISCONNECTED, {"ids": [connection_id]}).one_or_none() is not None

    def lock(self, ids: Iterable[ConnectionId]) -> set[ConnectionId]:
        """Lock the active ones of these connections, in id order."""
        wanted = sorted(set(ids))
        return set(self._session.scalars(_LOCK, {"ids": wanted})) if wanted else set()

    def lock_skipping(self, ids: Iterable[ConnectionId]) -> set[ConnectionId]:
        """As `lock`, but without those that another transaction has locked."""
        return set(self._session.scalars(_LOCK_SKIPPING, {"ids": sorted(set(ids))}))

    def lock_closable(self, as_of: datetime, jobs: int) -> dict[ConnectionId, bool]:
        """
        Lock connections that were silent at *as_of*, or had disconnected before it; the value tells which.

        In id order; only so many that they have about *jobs* jobs together, but at least one. Those that another
        transaction has locked are left to the next sweep. A heartbeat that commits first wins: the condition is
        checked again on the locked row.
        """
        closable = is_closable(as_of)
        first = (
            select(SocketConnection.id, func.jsonb_array_length(SocketConnection.active_jobs).label("jobs"))
            .where(closable)
            .order_by(SocketConnection.id)
            .limit(jobs)
            .subquery()
        )
        running = select(
            first.c.id,
            func.sum(first.c.jobs).over(order_by=first.c.id).label("jobs"),
            func.row_number().over(order_by=first.c.id).label("place"),
        ).subquery()
        chosen = select(running.c.id).where(or_(running.c.jobs <= jobs, running.c.place == 1))
        rows = self._session.execute(
            select(SocketConnection.id, SocketConnection.goodbye_at.is_not(None))
            .where(SocketConnection.id.in_(chosen), closable)
            .order_by(SocketConnection.id)
            .with_for_update(key_share=True, skip_locked=True)
        )
        return {ConnectionId(id_): disconnected for id_, disconnected in rows}

    def count(self, as_of: datetime) -> FleetCounts:
        """Count the active connections, and those of them that were silent at *as_of*."""
        silent = is_silent(as_of)
        overdue = is_silent(as_of, early=settings().heartbeat_interval)
        counts = select(func.count(), func.count().filter(silent), func.count().filter(overdue))
        return FleetCounts(*self._session.execute(counts.where(SocketConnection.is_active)).one())

    def close(self, ids: Collection[ConnectionId]) -> None:
        """Close connections for good. The caller has locked them and closed their attempts."""
        if ids:
            self._session.execute(_CLOSE, {"ids": list(ids)})

    def lock_with_free_slots(self, limit: int) -> list[ConnectionSlots]:
        """Lock at most *limit* connections with free slots that are not locked elsewhere, the least used first."""
        rows = self._session.execute(_LOCK_WITH_FREE_SLOTS, {"limit": limit}).all()
        return [ConnectionSlots(row.id, row.capacity, row.used) for row in rows]

    def occupy_slots(self, slots: Iterable[Slot]) -> None:
        """Add new attempts to connections that the caller has locked."""
        slots_by_connection = _by_connection(slots)
        rows = [{"id": id_, "fences": fences} for id_, fences in slots_by_connection.items()]
        self._session.execute(_OCCUPY_SLOTS, {"ids": [*slots_by_connection], "rows": json.dumps(rows)})

    def free_slots(self, freed: Collection[Slot], reported_ended: Iterable[Slot] = ()) -> None:
        """
        Remove ended attempts from connections that the caller has locked.

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
        if rows:
            ids = [row["id"] for row in rows]
            self._session.execute(_FREE_SLOTS, {"ids": ids, "rows": json.dumps(rows)})

    def miscounted(self, limit: int) -> list[ConnectionId]:
        """Return connections whose active_jobs differ from their live attempts, as after a deletion by the web app."""
        return list(self._session.scalars(_MISCOUNTED, {"limit": limit}))

    def recount_slots(self, ids: Collection[ConnectionId]) -> None:
        """Set active_jobs to the live attempts of these connections, which the caller has locked."""
        self._session.execute(_RECOUNT_SLOTS, {"ids": list(ids)})


def _by_connection(slots: Iterable[Slot]) -> defaultdict[ConnectionId, list[CrawlerJobId]]:
    fences = defaultdict(list)
    for connection_id, fence in slots:
        fences[connection_id].append(fence)
    return fences
