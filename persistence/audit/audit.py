"""
The audit: invariants of the database, checked on a live system in one snapshot.

Every check is one query for the ids that break an invariant. What Crawlyard or the web app may legitimately do is
no fault, and neither is work that waits for the next run of a periodic task.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Transaction, text

from persistence.audit.checks import (
    attempts,
    connections,
    entries,
    error_log,
    jobs,
    maintenance,
    overdue,
    secrets,
)
from persistence.audit.checks.check import Check
from persistence.fleet.silence import GOODBYE_MARGIN
from persistence.schema.sql import sql
from persistence.settings import Settings, settings

IDS_PER_FAULT = 20
"""How many ids a fault lists; the rest are counted."""

GRACE_ROUNDS = 5
"""How many reconcile intervals may pass before work that reconcile picks up is overdue."""

STATEMENT_TIMEOUT = timedelta(minutes=2)
"""For one check. With a million jobs, all checks together take a tenth of it."""

CHECKS: dict[str, Check] = {
    check.name: check
    for subject in (attempts, entries, jobs, connections, error_log, overdue, maintenance, secrets)
    for check in subject.CHECKS
}
"""By name, in the order in which they run."""

_PLANNER_SETTINGS = text("""
    -- Tables that were never analyzed look small to the planner: it chooses a nested loop over a million rows, which
    -- takes for ever, or a merge join, which writes all of them to disk to sort them.
    SELECT set_config('statement_timeout', :timeout, true), set_config('enable_nestloop', 'off', true),
           set_config('enable_mergejoin', 'off', true), set_config('work_mem', '128MB', true),
           set_config('jit', 'off', true)
""")

_MOMENT = text("""
    -- Nothing is overdue if no sweep ran, or if an outage ended less than the grace ago.
    WITH moment AS (
        SELECT CASE WHEN :at_rest THEN now()
                    WHEN count(*) FILTER (WHERE last_sweep_at > now() - CAST(:outage_gap AS interval)
                                            AND COALESCE(grace_until, '-infinity') < now() - CAST(:grace AS interval)
                                         ) > 0
                    THEN now() - CAST(:grace AS interval) ELSE '-infinity' END AS before
          FROM liveness_state
    )
    -- How many transactions ago that moment was: events record their time and their transaction.
    SELECT before::text,
           CASE WHEN :at_rest THEN -2147483648
                ELSE COALESCE((SELECT age(xmin) FROM dispatch_event WHERE created_at < before
                                ORDER BY xid DESC, id DESC LIMIT 1), 2147483647) END AS untouched
      FROM moment
""")

_FAULTS = """
    SELECT id::text AS id, count(*) OVER () AS faults FROM ($query) fault ORDER BY id::text COLLATE "C" LIMIT :ids
"""


@dataclass(frozen=True)
class Fault:
    """A broken invariant, and the ids that break it."""

    name: str
    meaning: str
    ids: list[str]
    """The first IDS_PER_FAULT, in order."""
    count: int
    """Of all ids that break it."""

    def __str__(self) -> str:
        """One line for people."""
        more = f" and {self.count - len(self.ids):,} more" if self.count > len(self.ids) else ""
        return f"{self.name}: {self.meaning} Violated by {self.count:,}: {', '.join(self.ids)}{more}"


def audit(
    connection: Connection,
    names: Collection[str] = (),
    *,
    at_rest: bool = False,
    worker_settings: Settings | None = None,
) -> list[Fault]:
    """
    Check every invariant, or those of these *names*; returns the broken ones.

    Begins its own snapshot, or uses the transaction of the caller, whose settings are restored. With *at_rest*, all
    periodic tasks have nothing left to do, so that work that waits for a reconcile, a sweep or an assignment round is
    a fault at once. *worker_settings* are the settings of the workers, by default those of this process. Needs only
    the right to read.
    """
    found = run_checks(connection, names, at_rest=at_rest, worker_settings=worker_settings)
    return [fault for _, fault in found if fault is not None]


def run_checks(
    connection: Connection,
    names: Collection[str] = (),
    *,
    at_rest: bool = False,
    worker_settings: Settings | None = None,
) -> Iterator[tuple[Check, Fault | None]]:
    """Like `audit`, but yields the result of each check as soon as it is known."""
    with _snapshot(connection):
        values = _values(connection, worker_settings or settings(), at_rest=at_rest)
        for name in names or CHECKS:
            yield CHECKS[name], run_check(connection, CHECKS[name], values)


@contextmanager
def _snapshot(connection: Connection) -> Iterator[None]:
    with connection.begin_nested() if connection.in_transaction() else _own(connection) as transaction:
        limit = f"{STATEMENT_TIMEOUT.total_seconds() * 1000:.0f}ms"
        connection.execute(_PLANNER_SETTINGS, {"timeout": limit})
        yield
        transaction.rollback()


@contextmanager
def _own(connection: Connection) -> Iterator[Transaction]:
    """Begin a transaction that reads one moment. The level is part of BEGIN: the engine's limits follow at once."""
    level = connection.get_execution_options().get("isolation_level", connection.default_isolation_level)
    connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    try:
        with connection.begin() as transaction:
            yield transaction
    finally:
        if not connection.closed and not connection.invalidated:
            connection.execution_options(isolation_level=level, postgresql_readonly=False)


def _values(connection: Connection, worker_settings: Settings, *, at_rest: bool) -> dict[str, Any]:
    """The parameters that the queries of checks may use."""
    values = {
        "at_rest": at_rest,
        "grace": GRACE_ROUNDS * worker_settings.reconcile_interval,
        "outage_gap": worker_settings.outage_gap,
    }
    moment = connection.execute(_MOMENT, values).one()
    return {
        "before": moment.before,
        "untouched": moment.untouched,
        "connection_timeout": worker_settings.longest_silence,
        "resume_window": worker_settings.resume_window,
        "goodbye_margin": GOODBYE_MARGIN,
        "keep_errors": worker_settings.keep_errors,
        "pending_cap": worker_settings.pending_cap or worker_settings.max_waiting,
        "refresh_patience": worker_settings.refresh_patience,
        "stall_timeout": worker_settings.stall_timeout,
    }


def run_check(connection: Connection, check: Check, values: Mapping[str, Any]) -> Fault | None:
    """Run one check with these parameters; the fault it finds, if any."""
    statement = sql(_FAULTS, query=check.query)
    rows = connection.execute(statement, {**values, "ids": IDS_PER_FAULT}).all()
    if not rows:
        return None
    return Fault(check.name, check.meaning, [row.id for row in rows], rows[0].faults)
