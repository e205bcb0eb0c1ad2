"""Reads connections and their live attempts, for operators."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Executable, Integer, bindparam, case, func, select

from persistence.db.snapshot import snapshot
from persistence.schema.sql import among
from persistence.schema.tables import Assignment, SocketConnection
from persistence.settings import settings

# In the order of the fields of ConnectionState.
_CONNECTIONS = select(
    SocketConnection.id,
    SocketConnection.crawler_id,
    SocketConnection.is_active,
    SocketConnection.system_status,
    SocketConnection.capacity,
    func.jsonb_array_length(SocketConnection.active_jobs),
    SocketConnection.reported,
    SocketConnection.connected_at,
    SocketConnection.last_heartbeat,
    case((SocketConnection.is_active, func.now() - SocketConnection.last_heartbeat)),
    SocketConnection.goodbye_at,
    SocketConnection.closed_at,
    SocketConnection.details,
    SocketConnection.gateway,
    SocketConnection.link,
    SocketConnection.incarnation,
    SocketConnection.lost_at,
    case((SocketConnection.is_active, func.now() - SocketConnection.lost_at)),
).order_by(SocketConnection.id)

_ACTIVE = _CONNECTIONS.where(SocketConnection.is_active, SocketConnection.id > bindparam("after")).limit(
    bindparam("limit", type_=Integer)
)

_OF_IDS = _CONNECTIONS.where(among(SocketConnection.id))

_ATTEMPTS = (
    select(
        Assignment.connection_id,
        Assignment.crawler_job_id,
        Assignment.web_app_job_id,
        Assignment.status,
        Assignment.assigned_at,
        Assignment.progressed_at,
    )
    .where(among(Assignment.connection_id), Assignment.completed_at.is_(None))
    .order_by(Assignment.crawler_job_id)
)


_GREEDY = (
    select(SocketConnection.id)
    .where(SocketConnection.is_active, SocketConnection.asked_capacity.is_not(None))
    .order_by(SocketConnection.id)
)

_IMPLAUSIBLE = (
    select(SocketConnection.id)
    .where(SocketConnection.implausible_at > func.now() - timedelta(days=1))
    .order_by(SocketConnection.implausible_at.desc())
)


@dataclass(frozen=True)
class SuspiciousConnections:
    """Connections whose crawlers an operator should look at."""

    greedy: list[str]
    """Active ones that asked for more than `max_capacity`."""
    implausible: list[str]
    """Those that ended implausibly many attempts within a day, the latest first."""


@dataclass(frozen=True)
class LiveAttempt:
    """A job that a connection is working on."""

    crawler_job_id: str
    job_id: str
    status: str
    assigned_at: datetime | None
    progressed_at: datetime | None


@dataclass(frozen=True)
class ConnectionState:
    """The current state of a connection."""

    id: str
    crawler_id: str | None
    is_active: bool
    system_status: str
    capacity: int
    live: int
    """The number of live attempts."""
    reported: int
    """The number of jobs that the crawler last reported."""
    connected_at: datetime
    last_heartbeat: datetime
    silent_for: timedelta | None
    """By the database's clock; None if the connection is closed."""
    goodbye_at: datetime | None
    closed_at: datetime | None
    details: Any
    """The metadata of its registration."""
    gateway: str | None
    """The gateway that holds its newest link; None if it was registered without one."""
    link: str | None
    incarnation: int | None
    lost_at: datetime | None
    """When that link ended without a goodbye."""
    lost_for: timedelta | None
    """How long ago that was, by the database's clock; None too if the connection is closed."""
    attempts: list[LiveAttempt]


def active_connections(
    *, after: str = "", limit: int = 1000, gateway: str | None = None
) -> list[ConnectionState]:
    """At most *limit* active connections whose ids follow *after*, in the order of their ids; of *gateway* alone."""
    active = _ACTIVE if gateway is None else _ACTIVE.where(SocketConnection.gateway == gateway)
    with snapshot(settings().statement_timeout) as connection:
        return _read(connection, active, {"after": after, "limit": limit})


def find_connections(ids: Collection[str]) -> list[ConnectionState]:
    """The connections with these ids that exist, including closed ones, in the order of their ids."""
    with snapshot(settings().statement_timeout) as connection:
        return _read(connection, _OF_IDS, {"ids": list(ids)})


def suspicious_connections(connection: Connection) -> SuspiciousConnections:
    """The connections that asked for too much, or that lately ended implausibly many attempts."""
    return SuspiciousConnections(
        greedy=list(connection.scalars(_GREEDY)), implausible=list(connection.scalars(_IMPLAUSIBLE))
    )


def _read(connection: Connection, statement: Executable, values: dict[str, Any]) -> list[ConnectionState]:
    rows = connection.execute(statement, values).all()
    attempts: dict[str, list[LiveAttempt]] = {row.id: [] for row in rows}
    for row in connection.execute(_ATTEMPTS, {"ids": list(attempts)}):
        attempt = LiveAttempt(
            row.crawler_job_id, row.web_app_job_id, row.status, row.assigned_at, row.progressed_at
        )
        attempts[row.connection_id].append(attempt)
    return [ConnectionState(*[*row, attempts[row.id]]) for row in rows]
