"""`crawlyard health`: is the dispatcher at work? For a supervisor or the healthcheck of a container."""

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

_PATIENCE_S = 2.0
"""For everything together; with the imports before it the command ends within 5 s."""

_SWEEPS_MISSED = 6
_MIN_BOUND = timedelta(seconds=60)


@dataclass(frozen=True)
class Health:
    """All of them."""

    healthy: bool
    checks: list[Check]


def show_health(*, as_json: bool, worker: bool, beat: bool, end_stuck: bool) -> int:
    """Print one line a check; returns the exit code. With *worker* or *beat* this machine's alone are judged."""
    settings()
    kinds = [kind for kind, asked in (("worker", worker), ("beat", beat)) if asked]
    if end_stuck and not kinds:
        raise click.UsageError("--end-stuck needs --worker or --beat.")
    judged = (check_liveness(kind, end_stuck=end_stuck) for kind in kinds)
    checks = list(chain.from_iterable(judged)) if kinds else check_health()
    health = Health(all(check.healthy for check in checks), checks)
    if as_json:
        screen.print_json(health)
    else:
        for check in checks:
            click.echo(f"{'ok  ' if check.healthy else 'FAIL'} {check.name}: {check.detail}")
    return 0 if health.healthy else FAILED_CHECK


def check_health() -> list[Check]:
    """Ask the database and the broker at once."""
    database, broker = begin(_look_at_database), begin(ping_broker)
    return [*_of_database(database), _of_broker(broker)]


def _look_at_database() -> tuple[str, SweepClock]:
    with snapshot(timedelta(seconds=_PATIENCE_S)) as connection:
        return require_head(connection), read_sweep(connection)


def _of_database(looked: "Future[tuple[str, SweepClock]]") -> list[Check]:
    try:
        revision, sweep = within(_PATIENCE_S, looked, "The database")
    except CrawlyardError as error:
        return [Check("database", healthy=False, detail=reason(error))]
    return [Check("database", healthy=True, detail=f"answers, schema at {revision}"), check_sweep(sweep)]


def _of_broker(pinged: "Future[None]") -> Check:
    try:
        within(_PATIENCE_S, pinged, "The broker")
    except CrawlyardError as error:
        return Check("broker", healthy=False, detail=reason(error))
    return Check("broker", healthy=True, detail="answers")


def bound() -> timedelta:
    """A last sweep that is older says that no worker sweeps: some may be late, in a deploy or under load."""
    return max(_SWEEPS_MISSED * settings().sweep_interval, _MIN_BOUND)


def check_sweep(sweep: SweepClock) -> Check:
    """
    Judge by the database's clock.

    Where none was ever recorded, the server's own age stands for the sweep's: everything has just
    been started together, or there is no worker.
    """
    limit = f"at most {duration(bound())}"
    if sweep.age is None:
        young = sweep.server_up <= bound()
        return Check("last sweep", young, f"never yet; {limit} after the start of the database's server")
    if sweep.age < -bound():
        return Check("last sweep", healthy=False, detail="in the future: was the database's clock set back?")
    return Check("last sweep", sweep.age <= bound(), f"{duration(sweep.age)} ago; {limit}")
