"""`crawlyard health`: checks that the dispatcher works, for a supervisor or the healthcheck of a container."""

from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING

import click

from console.checks.broker import ping_broker
from console.checks.check import Check
from console.checks.deadline import begin, within
from console.checks.processes import check_liveness
from console.output import screen
from console.output.exit_codes import FAILED_CHECK
from console.output.screen import duration
from console.output.urls import reason
from persistence.db.snapshot import snapshot
from persistence.exceptions import CrawlyardError
from persistence.migrations.head import require_head
from persistence.reports.status import SweepClock, read_sweep
from persistence.settings import settings

if TYPE_CHECKING:
    from concurrent.futures import Future

_TIMEOUT_S = 2.0
"""For all checks together; including its imports, the command ends within 5 s."""

KINDS = ("worker", "beat", "gateway")
"""The processes with a liveness file."""

_SWEEPS_MISSED = 6
_MIN_BOUND = timedelta(seconds=60)


@dataclass(frozen=True)
class Health:
    """The result of all checks."""

    healthy: bool
    checks: list[Check]


def show_health(*, as_json: bool, end_stuck: bool, **asked: bool) -> int:
    """Print one line per check, and return the exit code. *asked*: the kinds of this machine's processes to check."""
    settings()
    kinds = [kind for kind in KINDS if asked.get(kind)]
    if end_stuck and not kinds:
        raise click.UsageError(
            f"--end-stuck needs {', '.join(f'--{kind}' for kind in KINDS[:-1])} or --{KINDS[-1]}."
        )
    of_processes = (check_liveness(kind, end_stuck=end_stuck) for kind in kinds)
    checks = list(chain.from_iterable(of_processes)) if kinds else check_health()
    health = Health(all(check.healthy for check in checks), checks)
    if as_json:
        screen.print_json(health)
    else:
        for check in checks:
            click.echo(f"{'ok  ' if check.healthy else 'FAIL'} {check.name}: {check.detail}")
    return 0 if health.healthy else FAILED_CHECK


def check_health() -> list[Check]:
    """Check the database and the broker at the same time."""
    database, broker = begin(_read_database), begin(ping_broker)
    return [*_of_database(database), _of_broker(broker)]


def _read_database() -> tuple[str, SweepClock]:
    with snapshot(timedelta(seconds=_TIMEOUT_S)) as connection:
        return require_head(connection), read_sweep(connection)


def _of_database(read: "Future[tuple[str, SweepClock]]") -> list[Check]:
    try:
        revision, sweep = within(_TIMEOUT_S, read, "The database")
    except CrawlyardError as error:
        return [Check("database", healthy=False, detail=reason(error))]
    return [Check("database", healthy=True, detail=f"answers, schema at {revision}"), check_sweep(sweep)]


def _of_broker(pinged: "Future[None]") -> Check:
    try:
        within(_TIMEOUT_S, pinged, "The broker")
    except CrawlyardError as error:
        return Check("broker", healthy=False, detail=reason(error))
    return Check("broker", healthy=True, detail="answers")


def bound() -> timedelta:
    """
    Return the age from which the last sweep means that no worker sweeps.

    It leaves room for sweeps that are late, in a deploy or under load.
    """
    return max(_SWEEPS_MISSED * settings().sweep_interval, _MIN_BOUND)


def check_sweep(sweep: SweepClock) -> Check:
    """
    Check the age of the last sweep, by the database's clock.

    If no sweep was ever recorded, the uptime of the database server decides: either everything has just
    been started together, or no worker runs.
    """
    limit = duration(bound())
    if sweep.age is None:
        is_young = sweep.server_up <= bound()
        return Check(
            "last sweep", is_young, f"none yet; one is due within {limit} of the database server's start"
        )
    if sweep.age < -bound():
        return Check("last sweep", healthy=False, detail="in the future: was the database's clock set back?")
    return Check("last sweep", sweep.age <= bound(), f"{duration(sweep.age)} ago; the limit is {limit}")
