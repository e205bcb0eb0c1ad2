"""
The line `pinned`: assignment rounds and lives while another session keeps an old snapshot open.

A long report of the web app does that to a shared database: vacuum can remove no row version that has died since, nor
its index entries. Whole lives run in this process, without a broker, once during a REPEATABLE READ transaction that
started before them and once without. Assignment rounds are timed one by one, including their commit.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from benchmarks.harness.bed import Bed, bed
from benchmarks.harness.figures import Aim, Comparison, Figure, at_most
from benchmarks.harness.local import Rounds
from benchmarks.harness.world import add_accounts, add_crawlers
from console.embedded.servers import Services

LIVES = 500_000
WARM_UP = 5_000
DEPTH = 10_000
LAST = 20
"""Rounds at the end, whose median is reported."""

_ACCOUNTS = 50
_CRAWLERS, _CAPACITY = 100, 50

_ROUND, _LIVES = f"assignment round after {LIVES:,} lives, {{}}", "lives, {}"
_FREE, _PINNED = "no old snapshot", "old snapshot"


def measure(services: Services) -> Iterator[Figure]:
    """Rounds and lives of both runs, and how they compare."""
    free = _rounds(services, pinned=False)
    pinned = _rounds(services, pinned=True)
    for title, unit, aim, place in ((_ROUND, "ms", at_most(2), 0), (_LIVES, "/s", Aim(0.7), 1)):
        yield Figure(title.format(_FREE), unit, free[place])
        yield Figure(title.format(_PINNED), unit, pinned[place], (Comparison(title.format(_FREE), aim),))


def _rounds(services: Services, *, pinned: bool) -> tuple[list[float], list[float]]:
    """Return the milliseconds of the last rounds, and the lives per second of each tenth of the run."""
    with bed(services) as there:
        fleet = add_crawlers(there, _CRAWLERS, _CAPACITY)
        rounds = Rounds(there, add_accounts(there, _ACCOUNTS), fleet)
        rounds.submit(DEPTH)
        rounds.run(WARM_UP)
        with _snapshot(there, is_open=pinned):
            rates = [LIVES // 10 / rounds.run(LIVES // 10) for _ in range(10)]
        return [1000 * seconds for seconds in rounds.assignments[-LAST:]], rates


@contextmanager
def _snapshot(there: Bed, *, is_open: bool) -> Iterator[None]:
    with psycopg.connect(there.database_url) as report:
        report.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        if is_open:
            report.execute("SELECT count(*) FROM job")
        yield
        report.rollback()
