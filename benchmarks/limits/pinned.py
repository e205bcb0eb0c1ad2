"""
The line `pinned`: what becomes of passes and lives while somebody holds an old snapshot open.

A web app's long report does that to a shared database: no row that has changed since can be removed, nor its
index entries. Whole lives pass, in this process and without a broker, once beside a REPEATABLE READ
transaction that began before them and once without. Passes are timed one by one, with their commit.
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
"""Passes at the end, of which the median counts."""

_ACCOUNTS = 50
_CRAWLERS, _CAPACITY = 100, 50

_PASS, _LIVES = "a pass, at the end of {}", "lives, {}"


def measure(services: Services) -> Iterator[Figure]:
    """Passes and lives of both, and how they compare."""
    free = _rounds(services, pinned=False)
    pinned = _rounds(services, pinned=True)
    yield Figure(_PASS.format("the same lives"), "ms", free[0])
    yield Figure(
        _PASS.format(f"{LIVES:,} lives, pinned"),
        "ms",
        pinned[0],
        (Comparison(_PASS.format("the same lives"), at_most(2)),),
    )
    yield Figure(_LIVES.format("nothing pinned"), "/s", free[1])
    yield Figure(
        _LIVES.format("pinned"), "/s", pinned[1], (Comparison(_LIVES.format("nothing pinned"), Aim(0.7)),)
    )


def _rounds(services: Services, *, pinned: bool) -> tuple[list[float], list[float]]:
    """The last passes in milliseconds, and the lives a second of each tenth of the run."""
    with bed(services) as there:
        fleet = add_crawlers(there, _CRAWLERS, _CAPACITY)
        rounds = Rounds(there, add_accounts(there, _ACCOUNTS), fleet)
        rounds.submit(DEPTH)
        rounds.run(WARM_UP)
        with _snapshot(there, is_held=pinned):
            rates = [LIVES // 10 / rounds.run(LIVES // 10) for _ in range(10)]
        return [1000 * seconds for seconds in rounds.passes[-LAST:]], rates


@contextmanager
def _snapshot(there: Bed, *, is_held: bool) -> Iterator[None]:
    with psycopg.connect(there.database_url) as report:
        report.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        if is_held:
            report.execute("SELECT count(*) FROM job")
        yield
        report.rollback()
