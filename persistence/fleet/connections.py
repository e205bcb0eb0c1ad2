"""Connections of crawlers. Heartbeats and disconnects only leave marks on them; only the sweep closes one."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Select, func, null, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from persistence.fleet.open_connections import room_for_connections
from persistence.fleet.silence import FleetCounts, is_closable, is_dead, is_silent
from persistence.sanitize.json_values import storable
from persistence.schema.ids import ConnectionId
from persistence.schema.sql import among, fragment, sql
from persistence.schema.tables import SocketConnection
from persistence.settings import settings

_NOW = func.clock_timestamp()

_TOUCH = (
    update(SocketConnection)
    .where(among(SocketConnection.id), SocketConnection.is_active)
    .values(last_heartbeat=func.greatest(SocketConnection.last_heartbeat, _NOW))
    .returning(SocketConnection.id)
    .execution_options(synchronize_session=False)
)

_LATE = timedelta(minutes=10)
"""A word that is older than another one by more was said later, after the crawler's clock was set back."""

_IS_LATE = """
    (beat.$said_at < locked.$said_at AND beat.$said_at > locked.$said_at - CAST(:late AS interval))
"""

_RECORD_HEARTBEATS = sql(
    """
    WITH beat AS (
        SELECT * FROM jsonb_to_recordset(CAST(:beats AS jsonb))
            AS b(connection_id text, system_status text, reported int, reported_jobs jsonb, capacity int,
                 reported_said_at timestamptz, capacity_said_at timestamptz)
    ), locked AS (
        -- in order: two workers that lock in the order of their messages deadlock
        SELECT id, last_heartbeat, capacity, asked_capacity, capacity_said_at, reported_said_at
          FROM socket_connection
         WHERE id = ANY (CAST(:ids AS text[])) AND is_active
         ORDER BY id FOR NO KEY UPDATE
    ), news AS (
        -- found before the row is looked up again: most frames only prove that their crawler is alive
        SELECT beat.connection_id, beat.system_status, beat.reported_jobs,
               beat.reported_said_at, beat.capacity_said_at,
               CASE WHEN NOT COALESCE($reported_is_late, false) THEN beat.reported END AS reported,
               CASE WHEN NOT COALESCE($capacity_is_late, false) THEN beat.capacity END AS capacity
          FROM locked JOIN beat ON beat.connection_id = locked.id
         WHERE locked.last_heartbeat < clock_timestamp() - CAST(:step AS interval)
            OR num_nonnulls(beat.system_status, beat.capacity, beat.reported) > 0
    ), changed AS (
        UPDATE socket_connection c
           SET last_heartbeat = GREATEST(c.last_heartbeat, clock_timestamp()),
               system_status = COALESCE(news.system_status, c.system_status),
               capacity = LEAST(COALESCE(news.capacity, c.capacity), :max_capacity),
               asked_capacity = CASE WHEN news.capacity IS NULL THEN c.asked_capacity
                                     WHEN news.capacity > :max_capacity THEN news.capacity END,
               capacity_said_at = CASE WHEN news.capacity IS NULL THEN c.capacity_said_at
                                       ELSE COALESCE(news.capacity_said_at, c.capacity_said_at) END,
               reported_said_at = CASE WHEN news.reported IS NULL THEN c.reported_said_at
                                       ELSE COALESCE(news.reported_said_at, c.reported_said_at) END,
               reported = COALESCE(news.reported, c.reported),
               reported_jobs = CASE WHEN news.reported IS NULL THEN c.reported_jobs ELSE news.reported_jobs END,
               reported_at = CASE WHEN news.reported IS NULL THEN c.reported_at ELSE clock_timestamp() END
          FROM news WHERE c.id = news.connection_id
    )
    SELECT id, capacity, asked_capacity FROM locked
    """,
    capacity_is_late=fragment(_IS_LATE, said_at="capacity_said_at"),
    reported_is_late=fragment(_IS_LATE, said_at="reported_said_at"),
)

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
    .execution_options(synchronize_session=False)
)

_CLOSED_AMONG = select(SocketConnection.id).where(among(SocketConnection.id), ~SocketConnection.is_active)

_MARK_DISCONNECTED = (
    update(SocketConnection)
    .where(among(SocketConnection.id), SocketConnection.is_active, SocketConnection.goodbye_at.is_(None))
    .values(goodbye_at=_NOW)
    .returning(SocketConnection.id)
    .execution_options(synchronize_session=False)
)

_ACTIVE = (
    select(SocketConnection.id)
    .where(among(SocketConnection.id), SocketConnection.is_active)
    .order_by(SocketConnection.id)
)
_LOCK = _ACTIVE.with_for_update(key_share=True)
_LOCK_SKIPPING = _ACTIVE.with_for_update(key_share=True, skip_locked=True)

_COUNT_DOUBTS = sql(
    """
    UPDATE socket_connection c
       -- a time in the future was written before the database's clock was set back
       SET doubts_from = CASE WHEN $is_counting THEN c.doubts_from ELSE clock_timestamp() END,
           doubts = CASE WHEN $is_counting THEN c.doubts ELSE 0 END + new.doubts
      FROM unnest(CAST(:ids AS text[]), CAST(:doubts AS int[])) AS new(id, doubts)
     WHERE c.id = new.id
    RETURNING c.id, c.doubts
    """,
    is_counting="c.doubts_from BETWEEN clock_timestamp() - interval '1 hour' AND clock_timestamp()",
)

_CLOSE = (
    update(SocketConnection)
    .where(among(SocketConnection.id), SocketConnection.is_active)
    .values(is_active=False, closed_at=_NOW, active_jobs=[])
    .execution_options(synchronize_session=False)
)


@dataclass(frozen=True)
class Beat:
    """What one or several heartbeats of a connection report. None: not reported."""

    connection_id: ConnectionId
    system_status: str | None = None
    reported: int | None = None
    reported_jobs: list[str] | None = None
    capacity: int | None = None
    reported_said_at: datetime | None = None
    """When the crawler said so, by its own clock."""
    capacity_said_at: datetime | None = None

    @property
    def replaces_earlier(self) -> bool:
        """True if it says something that a later one may say otherwise, and that matters."""
        return self.capacity is not None or self.reported_jobs is not None

    def merged_with(self, later: "Beat") -> "Beat":
        """
        Merge two: each later value replaces the earlier one. A count and a list of jobs replace each other.

        One that its crawler said earlier, and that comes late, replaces nothing.
        """
        reports = later.reported is not None and not _is_late(later.reported_said_at, self.reported_said_at)
        asks = later.capacity is not None and not _is_late(later.capacity_said_at, self.capacity_said_at)
        reported, asked = later if reports else self, later if asks else self
        return Beat(
            self.connection_id,
            system_status=later.system_status or self.system_status,
            reported=reported.reported,
            reported_jobs=reported.reported_jobs,
            capacity=asked.capacity,
            reported_said_at=reported.reported_said_at,
            capacity_said_at=asked.capacity_said_at,
        )


def _is_late(said_at: datetime | None, other: datetime | None) -> bool:
    return said_at is not None and other is not None and timedelta(0) < other - said_at < _LATE


class KnownCapacity(NamedTuple):
    """How many jobs at once a connection could have before a heartbeat."""

    capacity: int
    asked: int | None
    """What its crawler had asked for, if that was above `max_capacity`."""


class Closable(NamedTuple):
    """Why a connection is to be closed, and which jobs its crawler listed last."""

    has_left: bool
    """It has disconnected."""
    lost_link: bool
    listed: frozenset[str]


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
    ) -> Literal["registered", "live", "closed", "refused"]:
        """
        Open a connection, with at most `max_capacity`.

        Returns `live` if it was open already. That proves that it is alive: a gateway that repeats a registration
        does not see the row yet, and sends no heartbeat before. Returns `closed` if the id was used before, and
        `refused` if as many are open as may be. Units that commit at the same moment may open a few more.
        """
        row = {
            SocketConnection.id: connection_id,
            SocketConnection.crawler_id: crawler_id,
            SocketConnection.capacity: min(capacity, settings().max_capacity),
            SocketConnection.asked_capacity: capacity if capacity > settings().max_capacity else null(),
            SocketConnection.details: null() if metadata is None else storable(metadata),
            SocketConnection.last_heartbeat: _NOW,
        }
        new = insert(SocketConnection).values(row).on_conflict_do_nothing().returning(SocketConnection.id)
        is_full = not room_for_connections(self._session)
        if not is_full and self._session.scalars(new).one_or_none():
            return "registered"
        if self._session.scalars(_TOUCH, {"ids": [connection_id]}).one_or_none():
            return "live"
        return "refused" if is_full and not self.closed_among([connection_id]) else "closed"

    def record_heartbeats(self, beats: Collection[Beat]) -> dict[ConnectionId, KnownCapacity]:
        """
        Record that connections are alive, one beat each, and lock them. last_heartbeat only moves forward.

        A beat that reports nothing is written at most once per `heartbeat_resolution`: each write leaves a version
        of the row, and under a snapshot that is held open every lookup reads all of them.

        Returns the active connections, with their capacities before; nothing changes on the others.
        """
        rows = json.dumps([vars(beat) for beat in beats], default=datetime.isoformat)
        ids = [beat.connection_id for beat in beats]
        values = {
            "beats": rows,
            "ids": ids,
            "step": settings().heartbeat_resolution,
            "max_capacity": settings().max_capacity,
            "late": _LATE,
        }
        before = self._session.execute(_RECORD_HEARTBEATS, values)
        return {ConnectionId(id_): KnownCapacity(*known) for id_, *known in before}

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

    def lock_closable(self, as_of: datetime, jobs: int) -> dict[ConnectionId, Closable]:
        """
        Lock connections that were silent at *as_of*, or had lost their link or disconnected before it.

        In id order; only so many that they have about *jobs* jobs together, but at least one. Those that another
        transaction has locked are left to the next sweep. A heartbeat that commits first wins: the condition is
        checked again on the locked row.
        """
        closable = is_closable(as_of)
        rows = self._session.execute(
            select(
                SocketConnection.id,
                SocketConnection.goodbye_at.is_not(None),
                SocketConnection.lost_at.is_not(None),
                SocketConnection.reported_jobs,
            )
            .where(SocketConnection.id.in_(_first(closable, jobs)), closable)
            .order_by(SocketConnection.id)
            .with_for_update(key_share=True, skip_locked=True)
        )
        return {
            ConnectionId(id_): Closable(
                has_left, lost_link, frozenset(jobs) if isinstance(jobs, list) else frozenset()
            )
            for id_, has_left, lost_link, jobs in rows
        }

    def count(self, as_of: datetime) -> list[FleetCounts]:
        """
        Count the active connections, those dead at *as_of*, and those silent soon after it or with a lost link.

        The first counts are of all, the others of each gateway.
        """
        dead, gateway = is_dead(as_of), SocketConnection.gateway
        soon = or_(
            is_silent(as_of, early=settings().heartbeat_interval), SocketConnection.lost_at.is_not(None)
        )
        rows = self._session.execute(
            select(func.count(), func.count().filter(dead), func.count().filter(soon), gateway)
            .where(SocketConnection.is_active)
            .group_by(func.grouping_sets(tuple_(), tuple_(gateway)))
            .having(or_(func.grouping(gateway) == 1, gateway.is_not(None)))
            .order_by(func.grouping(gateway).desc())
        )
        return [FleetCounts(*row) for row in rows]

    def count_doubts(self, new: Mapping[ConnectionId, int]) -> dict[ConnectionId, int]:
        """
        Count accounts whose tokens connections, which the caller has locked, have just brought into doubt.

        Returns how many that makes within an hour.
        """
        values = {"ids": list(new), "doubts": list(new.values())}
        return {row.id: row.doubts for row in self._session.execute(_COUNT_DOUBTS, values)}

    def close(self, ids: Collection[ConnectionId]) -> None:
        """Close connections for good. The caller has locked them and closed their attempts."""
        if ids:
            self._session.execute(_CLOSE, {"ids": list(ids)})


def _first(closable: ColumnElement[bool], jobs: int) -> Select[tuple[str]]:
    """Select the first closable connections: at most *jobs* jobs together, or one connection with more."""
    candidates = (
        select(SocketConnection.id, func.jsonb_array_length(SocketConnection.active_jobs).label("jobs"))
        .where(closable)
        .order_by(SocketConnection.id)
        .limit(jobs)
        .subquery()
    )
    running = select(
        candidates.c.id,
        func.sum(candidates.c.jobs).over(order_by=candidates.c.id).label("jobs"),
        func.row_number().over(order_by=candidates.c.id).label("place"),
    ).subquery()
    return select(running.c.id).where(or_(running.c.jobs <= jobs, running.c.place == 1))
