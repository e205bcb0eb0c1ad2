"""
The audit: the invariants that nothing may break, checked on a live database in one snapshot.

Every check is one query for the ids of what breaks an invariant; all is well where none finds any. What
Crawlyard or the web app may have done legitimately is no fault, nor is what only waits for its turn.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, text

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
from persistence.settings import Settings, settings

IDS_PER_FAULT = 20
"""So many are named; the rest is counted."""

GRACE_ROUNDS = 5
"""So many rounds of reconcile may come and go before what one of them moves on is overdue."""

STATEMENT_TIMEOUT = timedelta(minutes=2)
"""Of one check. With a million jobs all of them together take a tenth of that."""

CHECKS: dict[str, Check] = {
    check.name: check
    for subject in (attempts, entries, jobs, connections, error_log, overdue, maintenance, secrets)
    for check in subject.CHECKS
}
"""By name, in the order in which they are run."""

_BEGIN = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")

_PLANNER_SETTINGS = text("""
    -- Tables that were never analyzed look small: a nested loop over a million rows takes for ever, and
    -- a merge join writes them all to disk to sort them.
    SELECT set_config('statement_timeout', :timeout, true), set_config('enable_nestloop', 'off', true),
           set_config('enable_mergejoin', 'off', true), set_config('work_mem', '128MB', true),
           set_config('jit', 'off', true)
""")

_MOMENT = text("""
    -- Nothing is overdue where nobody swept, or where the end of an outage is younger than the grace.
    WITH moment AS (
        SELECT CASE WHEN :at_rest THEN now()
                    WHEN count(*) FILTER (WHERE last_sweep_at > now() - CAST(:outage_gap AS interval)
                                            AND COALESCE(grace_until, '-infinity') < now() - CAST(:grace AS interval)
                                         ) > 0
                    THEN now() - CAST(:grace AS interval) ELSE '-infinity' END AS before
          FROM liveness_state
    )
    -- How many transactions ago it was: events say when they were written, and by which.
    SELECT before::text,
           CASE WHEN :at_rest THEN -2147483648
                ELSE COALESCE((SELECT age(xmin) FROM dispatch_event WHERE created_at < before
                                ORDER BY xid DESC, id DESC LIMIT 1), 2147483647) END AS untouched
      FROM moment
""")


@dataclass(frozen=True)
class Fault:
    """An invariant that is broken, and by whom."""

    name: str
    meaning: str
    ids: list[str]
    """The first of them, in order."""
    count: int
    """How many there are."""

    def __str__(self) -> str:
        """In one line, as a person reads it."""
        more = f" and {self.count - len(self.ids):,} more" if self.count > len(self.ids) else ""
        return f"{self.name}: {self.meaning} Not so: {self.count:,}: {', '.join(self.ids)}{more}"


def audit(
    connection: Connection,
    names: Collection[str] = (),
    *,
    at_rest: bool = False,
    worker_settings: Settings | None = None,
) -> list[Fault]:
    """
    Check every invariant, or those of these *names*; returns the broken ones.

    Begins a snapshot of its own; within a transaction of the caller it is that one's, whose settings
    are as before afterwards. *at_rest*: all has come round that would, so what still waits for the next
    round of reconcile, a sweep or a pass is a fault at once. *worker_settings* are the settings of the workers, by
    default those of this process. Needs no right but to read.
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
    """As `audit`, check by check, as each ends."""
    with _snapshot(connection):
        values = _values(connection, worker_settings or settings(), at_rest=at_rest)
        for name in names or CHECKS:
            yield CHECKS[name], run_check(connection, CHECKS[name], values)


@contextmanager
def _snapshot(connection: Connection) -> Iterator[None]:
    owns_transaction = not connection.in_transaction()
    with connection.begin() if owns_transaction else connection.begin_nested() as transaction:
        if owns_transaction:
            connection.execute(_BEGIN)
        limit = f"{STATEMENT_TIMEOUT.total_seconds() * 1000:.0f}ms"
        connection.execute(_PLANNER_SETTINGS, {"timeout": limit})
        yield
        transaction.rollback()


def _values(connection: Connection, worker_settings: Settings, *, at_rest: bool) -> dict[str, Any]:
    """What the queries may refer to."""
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
        "keep_errors": worker_settings.keep_errors,
        "pending_cap": worker_settings.pending_cap,
        "refresh_patience": worker_settings.refresh_patience,
        "stall_timeout": worker_settings.stall_timeout,
    }


def run_check(connection: Connection, check: Check, values: Mapping[str, Any]) -> Fault | None:
    """What breaks this one invariant, with the values that its query refers to."""
    statement = text(f"""
        SELECT id::text AS id, count(*) OVER () AS faults FROM ({check.query}) fault
         ORDER BY id::text COLLATE "C" LIMIT {IDS_PER_FAULT}
    """)  # noqa: S608 - no input is in it
    rows = connection.execute(statement, values).all()
    if not rows:
        return None
    return Fault(check.name, check.meaning, [row.id for row in rows], rows[0].faults)
