"""Facts about the server: its settings, its clock, and whether we use a pooler."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from persistence.db.pooler import is_pooled

_PROBES = 5

_SERVER = text("""
    SELECT name, CASE WHEN unit = 'ms' THEN setting || ' ms' ELSE setting END FROM pg_settings
     WHERE name IN ('server_version_num', 'server_version', 'max_connections', 'superuser_reserved_connections',
                    'deadlock_timeout', 'fsync', 'synchronous_commit')
""")


_WRITABLE = text("SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')")


@dataclass(frozen=True)
class ClockDifference:
    """The database's clock minus this machine's, in seconds, measured to within *bound*."""

    seconds: float
    bound: float


def server_settings(connection: Connection) -> Mapping[str, str]:
    """The server's version and settings by their names in postgresql.conf; durations end in ` ms`."""
    return dict(connection.execute(_SERVER).all())


def why_read_only(connection: Connection) -> tuple[str, str]:
    """Return why the database accepts no writes, and the remedy; nothing if it does."""
    in_recovery, default = connection.execute(_WRITABLE).one()
    if in_recovery:
        return "the server is a replica, which accepts no writes", "Point DATABASE_URL at the primary."
    if default == "on":
        return (
            "default_transaction_read_only is on: no transaction writes, and workers wait",
            "Set it off for the database and the role; a provider sets it while the disk is full.",
        )
    return "", ""


def is_behind_pooler(connection: Connection) -> bool:
    """True if a pooler accepted this connection, not the server."""
    driver: Any = connection.connection.driver_connection
    return is_pooled(driver)


def clock_difference(connection: Connection) -> ClockDifference:
    """Measure the difference of the two clocks; the fastest of several round trips counts."""
    return min((_probe_clock(connection) for _ in range(_PROBES)), key=lambda probe: probe.bound)


def _probe_clock(connection: Connection) -> ClockDifference:
    before = time.time()
    server_time = connection.execute(
        text("SELECT extract(epoch FROM clock_timestamp())::float8")
    ).scalar_one()
    after = time.time()
    return ClockDifference(server_time - (before + after) / 2, (after - before) / 2)
