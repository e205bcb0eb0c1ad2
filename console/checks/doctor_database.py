"""The doctor's look at the database: its server, the schema, the clocks."""

import os
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import Connection

from console.checks.finding import Finding, judged
from console.output.screen import counted
from console.output.urls import reason
from persistence.db.pooler import is_direct_url_pooled
from persistence.db.server import (
    ClockDifference,
    clock_difference,
    is_behind_pooler,
    missing_privileges,
    server_settings,
)
from persistence.db.snapshot import snapshot
from persistence.exceptions import DatabaseLost
from persistence.maintenance.adoption import read_unadopted_jobs
from persistence.migrations.head import SchemaError, require_head
from persistence.settings import PREFIX, settings

_OLDEST = 150_000
"""PostgreSQL 15, as server_version_num counts."""
_DIRECT = f"{PREFIX}DIRECT_DATABASE_URL"
_CLOCKS_APART_S = 2.0
_LIMIT = timedelta(seconds=5)


def look_at_database() -> list[Finding]:
    """Ask the server. Raises the database's errors as ours where it does not answer."""
    with snapshot(_LIMIT) as connection:
        server = server_settings(connection)
        return [
            _version(server),
            *_schema(connection),
            _clocks(clock_difference(connection)),
            _locks(server),
            *(_pooler() if is_behind_pooler(connection) else [_room(server)]),
            *_durability(server),
        ]


def _version(server: Mapping[str, str]) -> Finding:
    return judged(
        "PostgreSQL",
        server["server_version"],
        good=int(server["server_version_num"]) >= _OLDEST,
        remedy="Crawlyard needs PostgreSQL 15 or later.",
    )


def _schema(connection: Connection) -> list[Finding]:
    try:
        revision = require_head(connection)
    except SchemaError as error:
        return [Finding("schema", "fault", str(error), "Run `crawlyard migrate`.")]
    return [Finding("schema", "ok", f"at revision {revision}, the newest"), _rights(connection), *_adoption()]


def _rights(connection: Connection) -> Finding:
    missing = missing_privileges(connection)
    return judged(
        "rights",
        f"missing: {', '.join(missing)}" if missing else "enough on the web app's tables",
        good=not missing,
        remedy="Let the owner of the tables GRANT them to the role in DATABASE_URL.",
    )


def _adoption() -> list[Finding]:
    found = read_unadopted_jobs()
    if found.adopted_from is None:
        return []
    jobs = counted(sum(found.jobs.values()), "job")
    return [
        Finding(
            "older jobs", "warning", f"{jobs} of an older database are left alone", "Run `crawlyard adopt`."
        )
    ]


def _clocks(difference: ClockDifference) -> Finding:
    return judged(
        "clocks",
        f"the database's is {difference.seconds:+.3f} s from this machine's, give or take {difference.bound:.3f} s",
        good=abs(difference.seconds) - difference.bound <= _CLOCKS_APART_S,
        remedy="Let NTP set both; Crawlyard itself uses the database's alone, people compare logs.",
        otherwise="warning",
    )


def _locks(server: Mapping[str, str]) -> Finding:
    ours, theirs = settings().lock_timeout, _duration(server["deadlock_timeout"])
    return judged(
        "locks",
        f"we wait {_milliseconds(ours)}, the server looks for deadlocks after {_milliseconds(theirs)}",
        good=ours < theirs,
        remedy=f"Set {PREFIX}LOCK_TIMEOUT below the server's deadlock_timeout, so that we give way to the web app.",
    )


def _room(server: Mapping[str, str]) -> Finding:
    """A hint: how many processes there are, here and elsewhere, nobody can know."""
    seats = int(server["max_connections"]) - int(server["superuser_reserved_connections"])
    processes = seats // settings().pool_size
    return judged(
        "connections to the server",
        f"{seats} for everybody; a process of ours keeps up to {settings().pool_size}: room for {processes} processes",
        good=processes > (os.cpu_count() or 1) + 1,
        remedy=f"Lower {PREFIX}POOL_SIZE (a prefork child uses one), or raise the server's max_connections.",
        otherwise="warning",
    )


def _pooler() -> list[Finding]:
    """Its own settings are not for us to see; what is to lead past it is."""
    longest = _milliseconds(settings().statement_timeout)
    found = Finding(
        "pooler", "ok", f"DATABASE_URL leads to one; its query_wait_timeout is to be below {longest}"
    )
    try:
        is_past = settings().direct_database_url is not None and not is_direct_url_pooled()
    except DatabaseLost as error:
        return [found, Finding("direct URL", "fault", reason(error), f"Is {_DIRECT} right?")]
    return [
        found,
        judged(
            "direct URL",
            "who follows events is woken" if is_past else "who follows events looks once a second",
            good=is_past,
            remedy=f"Set {_DIRECT} to the URL of the server itself, where that is too late.",
            otherwise="warning",
        ),
    ]


def _durability(server: Mapping[str, str]) -> list[Finding]:
    return [
        judged(
            name,
            server[name],
            good=server[name] != "off",
            remedy="A crash of the server may lose what was acknowledged: turn it on, unless this is a test.",
            otherwise="warning",
        )
        for name in ("fsync", "synchronous_commit")
    ]


def _duration(setting: str) -> timedelta:
    return timedelta(milliseconds=int(setting.removesuffix(" ms")))


def _milliseconds(time: timedelta) -> str:
    return f"{time / timedelta(milliseconds=1):g} ms"
