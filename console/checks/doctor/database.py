"""The doctor's examination of the database: its server, the schema, the clocks."""

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import Connection

from console.checks.doctor.finding import Finding, judged
from console.checks.doctor.growth import examine_growth
from console.checks.doctor.origins import examine_origins
from console.checks.doctor.web_app import examine_web_app
from console.output.screen import counted
from console.output.urls import reason
from persistence.db.pooler import is_direct_url_pooled
from persistence.db.server import (
    ClockDifference,
    clock_difference,
    is_behind_pooler,
    outdated_collations,
    patience,
    server_settings,
    why_read_only,
)
from persistence.db.session import foreign_formats, overridden_defaults
from persistence.db.snapshot import snapshot
from persistence.exceptions import DatabaseLost
from persistence.maintenance.adoption import read_unadopted_jobs
from persistence.migrations.head import SchemaError, require_head
from persistence.migrations.rights import read_rights, unhide, why_no_orders
from persistence.reports.connections import SuspiciousConnections, suspicious_connections
from persistence.schema import Base
from persistence.settings import PREFIX, settings

_OLDEST = 150_000
"""PostgreSQL 15, in the form of server_version_num."""
_DIRECT = f"{PREFIX}DIRECT_DATABASE_URL"
_MAX_CLOCK_DIFFERENCE_S = 2.0
_NAMED = 3
"""The most connections that a finding names."""
_STATEMENT_TIMEOUT = timedelta(seconds=5)


def examine_database() -> list[Finding]:
    """Examine the server. Raises a TransientError if it does not answer."""
    with snapshot(_STATEMENT_TIMEOUT) as connection:
        server = server_settings(connection)
        return [
            _version(server),
            _session(foreign_formats(connection), overridden_defaults(connection)),
            _writes(*why_read_only(connection)),
            *_schema(connection),
            _clocks(clock_difference(connection)),
            _locks(server),
            _collations(outdated_collations(connection, list(Base.metadata.tables))),
            _patience(patience(connection)),
            *(_pooler() if is_behind_pooler(connection) else [_connection_limit(server)]),
            *_durability(server),
        ]


def _version(server: Mapping[str, str]) -> Finding:
    return judged(
        "PostgreSQL",
        server["server_version"],
        good=int(server["server_version_num"]) >= _OLDEST,
        remedy="Crawlyard needs PostgreSQL 15 or later.",
    )


def _writes(why: str, remedy: str) -> Finding:
    return judged("writes", why or "accepted", good=not why, remedy=remedy)


def _session(foreign: Mapping[str, str], overridden: Sequence[str]) -> Finding:
    defaults = f"; these defaults do not count: {', '.join(overridden)}" if overridden else ""
    return judged(
        "session",
        "; ".join(f"{name} is {value}" for name, value in foreign.items())
        or f"encoding, formats and limits are Crawlyard's{defaults}",
        good=not foreign,
        remedy="A pooler drops what Crawlyard sets: use PgBouncer in transaction mode, or the server's own URL.",
    )


def _schema(connection: Connection) -> list[Finding]:
    rights = _rights(connection)
    if any(one.level == "fault" for one in rights):
        return rights  # what follows reads the tables
    try:
        revision = require_head(connection)
    except SchemaError as error:
        return [*rights, Finding("schema", "fault", str(error), "Run `crawlyard migrate`.")]
    return [
        *rights,
        Finding("schema", "ok", f"at revision {revision}, the newest"),
        *examine_web_app(connection),
        *_adoption(),
        *_crawlers(suspicious_connections(connection)),
        *examine_origins(connection),
        examine_growth(connection),
    ]


def _rights(connection: Connection) -> list[Finding]:
    rights = read_rights(connection)
    return [
        judged(
            "rights",
            f"missing: {rights.missing}" if rights.missing else "sufficient on all tables",
            good=not rights.missing,
            remedy=f"Have the owner run: {rights.grant}. A worker does not start without.",
        ),
        judged(
            "row level security",
            f"hides rows of {', '.join(rights.hidden)} from {rights.role}"
            if rights.hidden
            else "hides no row from us",
            good=not rights.hidden,
            remedy=f"{unhide(rights)} A worker does not start without.",
        ),
        _orders(*why_no_orders(connection)),
    ]


def _orders(missing: str, remedy: str) -> Finding:
    return judged(
        "rights on orders",
        f"missing: {missing}" if missing else "sufficient to read orders",
        good=not missing,
        remedy=f"{remedy}. Gateways and `crawlyard audit` need it; where they have another role, ask as that role.",
        otherwise="warning",
    )


def _adoption() -> list[Finding]:
    found = read_unadopted_jobs()
    if found.adopted_from is None:
        return []
    jobs = counted(sum(found.jobs.values()), "job")
    return [
        Finding(
            "older jobs",
            "warning",
            f"{jobs} of an older database are left alone",
            "Run `crawlyard adopt` to release them.",
        )
    ]


def _crawlers(found: SuspiciousConnections) -> list[Finding]:
    findings = []
    if found.greedy:
        findings.append(
            Finding(
                "capacity",
                "warning",
                f"{counted(len(found.greedy), 'connection')} asked for more than {settings().max_capacity} jobs at "
                f"once: {_some(found.greedy)}",
                f"Lower the capacity of these crawlers, or raise {PREFIX}MAX_CAPACITY.",
            )
        )
    if found.implausible:
        findings.append(
            Finding(
                "ended attempts",
                "warning",
                f"{counted(len(found.implausible), 'connection')} ended implausibly many a second within a day: "
                f"{_some(found.implausible)}",
                f"Check what these crawlers do; if they are just fast, raise {PREFIX}MAX_END_RATE.",
            )
        )
    return findings


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:_NAMED]) + (", …" if len(ids) > _NAMED else "")


def _clocks(difference: ClockDifference) -> Finding:
    return judged(
        "clocks",
        f"the database's differs from this machine's by {difference.seconds:+.3f} s ± {difference.bound:.3f} s",
        good=abs(difference.seconds) - difference.bound <= _MAX_CLOCK_DIFFERENCE_S,
        remedy="Set both by NTP, or the timestamps of their logs cannot be compared; Crawlyard itself uses only the "
        "database's clock.",
        otherwise="warning",
    )


def _locks(server: Mapping[str, str]) -> Finding:
    ours, theirs = settings().lock_timeout, _duration(server["deadlock_timeout"])
    return judged(
        "locks",
        f"Crawlyard waits {_milliseconds(ours)}, the server checks for deadlocks after {_milliseconds(theirs)}",
        good=ours < theirs,
        remedy=f"Set {PREFIX}LOCK_TIMEOUT below the server's deadlock_timeout, so that Crawlyard gives way to the "
        "web app.",
    )


def _collations(outdated: Mapping[str, str]) -> Finding:
    return judged(
        "collations",
        f"{', '.join(outdated)} sorted by another version than the indexes were made with"
        if outdated
        else "indexes are sorted as texts are compared",
        good=not outdated,
        remedy=f"Have the owner run: {'; '.join(dict.fromkeys(outdated.values()))}. Until then an index may miss rows, "
        "and rows may be there twice.",
        otherwise="warning",
    )


def _patience(limit: timedelta | None) -> Finding:
    if limit == timedelta(0):
        return Finding("TCP timeouts", "ok", "none is needed on a Unix socket")
    return judged(
        "TCP timeouts",
        f"a server that falls silent is given up after {_milliseconds(limit)}"
        if limit
        else "this system sets none",
        good=limit is not None,
        remedy="Only --pool prefork ends a task that waits for a server that fell silent; use it.",
        otherwise="warning",
    )


def _connection_limit(server: Mapping[str, str]) -> Finding:
    """A rough guide: the number of processes, on this machine and on others, is not known here."""
    available = int(server["max_connections"]) - int(server["superuser_reserved_connections"])
    processes = available // settings().pool_size
    return judged(
        "connections to the server",
        f"{available} in all; at up to {settings().pool_size} per process, enough for {processes} processes",
        good=processes > (os.cpu_count() or 1) + 1,
        remedy=f"Lower {PREFIX}POOL_SIZE (a prefork child uses one), or raise the server's max_connections.",
        otherwise="warning",
    )


def _pooler() -> list[Finding]:
    """The pooler's own settings cannot be read; that the direct URL bypasses it can be checked."""
    limit = _milliseconds(settings().statement_timeout)
    found = Finding(
        "pooler", "ok", f"DATABASE_URL points to one; its query_wait_timeout must be below {limit}"
    )
    try:
        is_direct = settings().direct_database_url is not None and not is_direct_url_pooled()
    except DatabaseLost as error:
        return [found, Finding("direct URL", "fault", reason(error), f"Is {_DIRECT} right?")]
    return [
        found,
        judged(
            "direct URL",
            "subscribers to events are notified" if is_direct else "subscribers to events poll once a second",
            good=is_direct,
            remedy=f"Set {_DIRECT} to the URL of the server itself, if a second is too late.",
            otherwise="warning",
        ),
    ]


def _durability(server: Mapping[str, str]) -> list[Finding]:
    return [
        judged(
            name,
            server[name],
            good=server[name] != "off",
            remedy="Turn it on, unless this is a test: a crash of the server may lose committed data.",
            otherwise="warning",
        )
        for name in ("fsync", "synchronous_commit")
    ]


def _duration(setting: str) -> timedelta:
    return timedelta(milliseconds=int(setting.removesuffix(" ms")))


def _milliseconds(time: timedelta) -> str:
    return f"{time / timedelta(milliseconds=1):g} ms"
