"""Connections: the crawlers' live links. A heartbeat marks; only the sweep closes."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

from persistence.sanitize.json_values import redact
from persistence.schema.ids import ConnectionId, CrawlerJobId
from persistence.schema.sql import SUSPECT_LOSSES
from persistence.settings import settings

_REGISTER = text("""
    INSERT INTO socket_connection (id, crawler_id, capacity, metadata, last_heartbeat)
    VALUES (:id, :crawler_id, :capacity, CAST(:metadata AS jsonb), clock_timestamp())
    ON CONFLICT (id) DO NOTHING RETURNING id
""")

_TOUCH = text("""
    UPDATE socket_connection SET last_heartbeat = GREATEST(last_heartbeat, clock_timestamp())
     WHERE id = :id AND is_active RETURNING id
""")

_RECORD_HEARTBEATS = text("""
    WITH beat AS (
        SELECT * FROM jsonb_to_recordset(CAST(:beats AS jsonb))
            AS b(connection_id text, system_status text, reported int, reported_jobs jsonb, capacity int)
    ), locked AS (
        -- in order: two workers with unsorted heartbeats live in deadlocks
        SELECT id, last_heartbeat FROM socket_connection
         WHERE id = ANY (CAST(:ids AS text[])) AND is_active
         ORDER BY id FOR NO KEY UPDATE
    ), news AS (
        -- told before the row is looked up again: most words say no more than that their crawler lives
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

_CLAMP_FUTURE_HEARTBEATS = text("""
    WITH locked AS (
        SELECT id FROM socket_connection
         WHERE is_active AND last_heartbeat > clock_timestamp()
         ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE socket_connection c SET last_heartbeat = clock_timestamp() FROM locked WHERE c.id = locked.id
""")

_MARK_DISCONNECTED = text("""
    UPDATE socket_connection SET goodbye_at = clock_timestamp()
     WHERE id = :id AND is_active AND goodbye_at IS NULL RETURNING id
""")

_LOCK_WITH_FREE_SLOTS = text(f"""
    SELECT id, capacity, GREATEST(jsonb_array_length(active_jobs), reported) AS used
      FROM socket_connection
     WHERE is_active AND goodbye_at IS NULL
       AND capacity > GREATEST(jsonb_array_length(active_jobs), reported)
       -- where a suspect is, it is alone: it may be what kills its crawlers
       AND NOT active_jobs ?| ARRAY (
               -- from the suspects, whatever the statistics say: they are few, and live attempts are many
               SELECT a.crawler_job_id
                 FROM (SELECT web_app_job_id FROM job_queue
                        WHERE status = 'processing' AND losses >= {SUSPECT_LOSSES} OFFSET 0) q
                CROSS JOIN LATERAL (
                      SELECT crawler_job_id FROM job_assignment_mapping
                       WHERE web_app_job_id = q.web_app_job_id AND completed_at IS NULL OFFSET 0) a)
     ORDER BY GREATEST(jsonb_array_length(active_jobs), reported), id
     LIMIT :limit
       FOR NO KEY UPDATE SKIP LOCKED
""")  # noqa: S608 - no input is in it

_LOCK = text("""
    SELECT id FROM socket_connection
     WHERE id = ANY (CAST(:ids AS text[])) AND is_active
     ORDER BY id FOR NO KEY UPDATE
""")

_LOCK_SKIPPING = text("""
    SELECT id FROM socket_connection
     WHERE id = ANY (CAST(:ids AS text[])) AND is_active
     ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
""")

_IS_CLOSABLE = """
    is_active AND (last_heartbeat < CAST(:as_of AS timestamptz) - CAST(:timeout AS interval)
                   OR goodbye_at < CAST(:as_of AS timestamptz))
"""

_LOCK_CLOSABLE = text(f"""
    WITH leaving AS (
        SELECT id, sum(jsonb_array_length(active_jobs)) OVER by_id AS jobs, row_number() OVER by_id AS place
          FROM (SELECT id, active_jobs FROM socket_connection WHERE {_IS_CLOSABLE} ORDER BY id LIMIT :jobs) gone
        WINDOW by_id AS (ORDER BY id)
    )
    SELECT id, goodbye_at IS NOT NULL AS disconnected
      FROM socket_connection
     WHERE id IN (SELECT id FROM leaving WHERE jobs <= :jobs OR place = 1)
       AND {_IS_CLOSABLE}
     ORDER BY id
       FOR NO KEY UPDATE SKIP LOCKED
""")  # noqa: S608 - no input is in it

_COUNT = text("""
    SELECT count(*) AS active,
           count(*) FILTER (WHERE last_heartbeat < CAST(:as_of AS timestamptz) - CAST(:timeout AS interval))
               AS silent,
           count(*) FILTER (WHERE last_heartbeat < CAST(:as_of AS timestamptz) - CAST(:missed AS interval))
               AS missing
      FROM socket_connection WHERE is_active
""")

_CLOSE = text("""
    UPDATE socket_connection SET is_active = false, closed_at = clock_timestamp(), active_jobs = '[]'
     WHERE id = ANY (CAST(:ids AS text[])) AND is_active
""")

_MISCOUNTED = text("""
    SELECT c.id FROM socket_connection c
      LEFT JOIN (SELECT connection_id, count(*) AS jobs FROM job_assignment_mapping
                  WHERE completed_at IS NULL GROUP BY connection_id) live
             ON live.connection_id = c.id
     WHERE c.is_active AND jsonb_array_length(c.active_jobs) <> COALESCE(live.jobs, 0)
     ORDER BY c.id LIMIT :limit
""")

_PLACES = """
    places AS MATERIALIZED (
        -- Where they lie, which changes under nobody's lock but ours: all ids at once read each page once. One after
        -- the other, each reads the pages of all that it has been since the last vacuum.
        SELECT ctid AS place, id FROM socket_connection WHERE id = ANY (CAST(:ids AS text[])) AND is_active
    )
"""

_OCCUPY_SLOTS = text(f"""
    WITH {_PLACES}
    UPDATE socket_connection c SET active_jobs = c.active_jobs || taken.fences
      FROM places JOIN jsonb_to_recordset(CAST(:rows AS jsonb)) AS taken(id text, fences jsonb) USING (id)
     WHERE c.ctid = places.place
""")  # noqa: S608 - no input is in it

_FREE_SLOTS = text(f"""
    WITH {_PLACES}, freed AS (
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
""")  # noqa: S608

_RECOUNT_SLOTS = text("""
    UPDATE socket_connection c
       SET active_jobs = COALESCE(
               (SELECT jsonb_agg(a.crawler_job_id ORDER BY a.crawler_job_id)
                  FROM job_assignment_mapping a
                 WHERE a.connection_id = c.id AND a.completed_at IS NULL), '[]')
     WHERE c.id = ANY (CAST(:ids AS text[])) AND c.is_active
""")


@dataclass(frozen=True)
class Beat:
    """What a heartbeat says; None: nothing was said of it."""

    connection_id: ConnectionId
    system_status: str | None = None
    reported: int | None = None
    reported_jobs: list[str] | None = None
    capacity: int | None = None

    def merged_with(self, later: "Beat") -> "Beat":
        """Both in one: the later word stands; a count and a list of jobs are one word."""
        reported = self if later.reported is None else later
        return Beat(
            self.connection_id,
            system_status=later.system_status or self.system_status,
            reported=reported.reported,
            reported_jobs=reported.reported_jobs,
            capacity=self.capacity if later.capacity is None else later.capacity,
        )


Slot = tuple[ConnectionId, CrawlerJobId]
"""An attempt, and where it is worked on."""


@dataclass(frozen=True)
class ConnectionSlots:
    """A connection with room, locked."""

    connection_id: ConnectionId
    capacity: int
    used: int
    """The greater of live and reported."""


@dataclass(frozen=True)
class SilenceCounts:
    """A fleet, counted."""

    active: int
    silent: int
    """For the whole timeout: these would be taken."""
    missing: int
    """For long enough that they are not on time."""


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
        Open a connection. `live`: it was open already, which is proof of life; `closed`: an id serves once.

        Who repeats a registration lives: its gateway cannot see the row yet, and does not beat before.
        """
        row = {"id": connection_id, "crawler_id": crawler_id, "capacity": capacity}
        details = None if metadata is None else json.dumps(redact(metadata))
        if self._session.execute(_REGISTER, row | {"metadata": details}).one_or_none():
            return "registered"
        return "live" if self._session.execute(_TOUCH, {"id": connection_id}).one_or_none() else "closed"

    def record_heartbeats(self, beats: Collection[Beat]) -> set[ConnectionId]:
        """
        Prove life, one beat a connection, and lock them; last_heartbeat moves forward only.

        One that says no more than that it lives is written once a `heartbeat_resolution`: a row that is written with
        each word leaves as many versions, and under a snapshot that is held open they are all walked over.

        Returns the connections that are active; of all others nothing changed.
        """
        rows = json.dumps([vars(beat) for beat in beats])
        ids = [beat.connection_id for beat in beats]
        values = {"beats": rows, "ids": ids, "step": settings().heartbeat_resolution}
        return set(self._session.scalars(_RECORD_HEARTBEATS, values))

    def clamp_future_heartbeats(self) -> None:
        """
        Let no connection have been heard in the future, after the database's clock was set back.

        Whoever had died would be taken for alive until the clock is there again.
        """
        self._session.execute(_CLAMP_FUTURE_HEARTBEATS)

    def closed_among(self, ids: Iterable[ConnectionId]) -> set[ConnectionId]:
        """Those of the connections that were open once; of the rest we never heard."""
        statement = text(
            "SELECT id FROM socket_connection WHERE id = ANY (CAST(:ids AS text[])) AND NOT is_active"
        )
        return set(self._session.scalars(statement, {"ids": list(ids)}))

    def mark_disconnected(self, connection_id: ConnectionId) -> bool:
        """Note a goodbye: no new seats; what it holds goes back with the next sweep. Whether it is news."""
        return self._session.execute(_MARK_DISCONNECTED, {"id": connection_id}).one_or_none() is not None

    def lock_with_free_slots(self, limit: int) -> list[ConnectionSlots]:
        """Lock at most *limit* connections with room, the least laden first; what a peer holds is left out."""
        rows = self._session.execute(_LOCK_WITH_FREE_SLOTS, {"limit": limit}).all()
        return [ConnectionSlots(row.id, row.capacity, row.used) for row in rows]

    def lock(self, ids: Iterable[ConnectionId]) -> set[ConnectionId]:
        """Lock those of the connections that are active, in id order."""
        wanted = sorted(set(ids))
        return set(self._session.scalars(_LOCK, {"ids": wanted})) if wanted else set()

    def lock_skipping(self, ids: Iterable[ConnectionId]) -> set[ConnectionId]:
        """As `lock`, but what a peer holds is left for the next sweep."""
        return set(self._session.scalars(_LOCK_SKIPPING, {"ids": sorted(set(ids))}))

    def lock_closable(self, as_of: datetime, timeout: timedelta, jobs: int) -> dict[ConnectionId, bool]:
        """
        Lock connections that were silent for *timeout* at *as_of*, or had said goodbye before it.

        In id order; so many that they hold about *jobs* jobs together, and at least one. What a
        peer holds is left for the next sweep, and a heartbeat that commits first wins: the row
        is tested again under its lock. The value says whether it had said goodbye.
        """
        rows = self._session.execute(_LOCK_CLOSABLE, {"as_of": as_of, "timeout": timeout, "jobs": jobs})
        return {row.id: row.disconnected for row in rows}

    def count_silent(self, as_of: datetime, timeout: timedelta, missed: timedelta) -> SilenceCounts:
        """How many are active, and how many of them had been silent for so long at *as_of*."""
        row = self._session.execute(_COUNT, {"as_of": as_of, "timeout": timeout, "missed": missed}).one()
        return SilenceCounts(row.active, row.silent, row.missing)

    def close(self, ids: Collection[ConnectionId]) -> None:
        """Close connections for good; the caller has locked them and closed what they held."""
        self._session.execute(_CLOSE, {"ids": list(ids)})

    def miscounted(self, limit: int) -> list[ConnectionId]:
        """Connections whose active_jobs are not their live assignments: the web app deleted a job, say."""
        return list(self._session.scalars(_MISCOUNTED, {"limit": limit}))

    def occupy_slots(self, slots: Iterable[Slot]) -> None:
        """Note attempts that begin on connections that the caller has locked."""
        slots_by_connection = _by_connection(slots)
        rows = [{"id": id_, "fences": fences} for id_, fences in slots_by_connection.items()]
        self._session.execute(_OCCUPY_SLOTS, {"ids": [*slots_by_connection], "rows": json.dumps(rows)})

    def free_slots(self, freed: Collection[Slot], reported_ended: Iterable[Slot] = ()) -> None:
        """
        Note attempts that have ended on connections that the caller has locked.

        *reported_ended* are those of which their crawler itself says that it ended them, revoked or not: they leave
        its own list, or its count where they were *freed*.
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

    def recount_slots(self, ids: Collection[ConnectionId]) -> None:
        """Let active_jobs equal the live assignments of these connections, which the caller has locked."""
        self._session.execute(_RECOUNT_SLOTS, {"ids": list(ids)})


def _by_connection(slots: Iterable[Slot]) -> defaultdict[ConnectionId, list[CrawlerJobId]]:
    fences = defaultdict(list)
    for connection_id, fence in slots:
        fences[connection_id].append(fence)
    return fences
