"""Facts about the server: its settings, its clock, and whether we use a pooler."""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
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


_OUTDATED_COLLATIONS = text("""
    -- An update of the operating system may sort texts anew, while indexes remain in the former order.
    SELECT 'the database', format('REINDEX DATABASE; ALTER DATABASE %I REFRESH COLLATION VERSION', datname)
      FROM pg_database
     WHERE datname = current_database() AND datcollversion <> pg_database_collation_actual_version(oid)
    UNION ALL
    SELECT oid::regcollation::text, format('REINDEX DATABASE; ALTER COLLATION %s REFRESH VERSION', oid::regcollation)
      FROM pg_collation
     WHERE collversion <> pg_collation_actual_version(oid)
       AND EXISTS (SELECT FROM pg_attribute
                    WHERE attcollation = pg_collation.oid
                      AND attrelid IN (SELECT to_regclass(quote_ident(name))
                                         FROM unnest(CAST(:names AS text[])) AS wanted(name)))
""")


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


def outdated_collations(connection: Connection, tables: Sequence[str]) -> dict[str, str]:
    """Return what sorts the texts of these tables by another version than the indexes do, with the remedy of each."""
    return dict(connection.execute(_OUTDATED_COLLATIONS, {"names": list(tables)}).all())


def patience(connection: Connection) -> timedelta | None:
    """
    Return after how long TCP gives up a server that no longer answers; None if never.

    Zero for a Unix socket, whose other end is seen to vanish.
    """
    driver: Any = connection.connection.driver_connection
    with socket.socket(fileno=os.dup(driver.fileno())) as link:
        if link.family == socket.AF_UNIX:
            return timedelta(0)
        option = getattr(socket, "TCP_USER_TIMEOUT", None)  # not every system has it
        milliseconds = link.getsockopt(socket.IPPROTO_TCP, option) if option is not None else 0
    return timedelta(milliseconds=milliseconds) or None


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
