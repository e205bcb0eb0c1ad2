"""
The line `assignment`: jobs a second that a pass seats, with 1,000,000 waiting, and beside it with 10,000.

1,000 accounts, 50,000 live assignments on 12,500 connections of which each has one seat more. A pass seats
1,000 jobs and is timed with its commit; its buffers are those of all its statements. Each depth is
measured twice: before any table was analyzed, with autovacuum off, and after VACUUM ANALYZE.
"""

from collections.abc import Iterator

from benchmarks.harness.bed import Bed, bed
from benchmarks.harness.depth import Depth
from benchmarks.harness.figures import Aim, Comparison, Figure, at_most
from benchmarks.harness.rounds import SEATS, Round, rounds
from benchmarks.harness.world import add_accounts
from console.embedded.servers import Services

DEPTHS = (10_000, 1_000_000)
LIVE, CONNECTIONS, ACCOUNTS = 50_000, 12_500, 1000

_PASSES = 10
"""Of each depth, before tables are analyzed and after."""

_NO_AUTOVACUUM = """
    DO $$ BEGIN EXECUTE (
        SELECT string_agg(format('ALTER TABLE %I SET (autovacuum_enabled = off)', tablename), ';')
          FROM pg_tables WHERE schemaname = 'public');
    END $$
"""

_STATES = ("never analyzed", "analyzed")


def measure(services: Services) -> Iterator[Figure]:
    """Rates, times of a pass in ms, and buffers a pass; the deep ones beside the shallow ones."""
    shallow, deep = (_at(services, depth) for depth in DEPTHS)
    for state in _STATES:
        few, many = (f"{depth:,} waiting, {state}" for depth in DEPTHS)
        rates = [SEATS / one.seconds for one in deep[state]]
        yield Figure(f"assignment, {many}", "jobs/s", rates, aim=Aim(10_000))
        yield Figure(f"a pass, {few}", "ms", [1000 * one.seconds for one in shallow[state]])
        times = [1000 * one.seconds for one in deep[state]]
        yield Figure(f"a pass, {many}", "ms", times, (Comparison(f"a pass, {few}", at_most(1.3)),))
        yield Figure(f"buffers of a pass, {few}", "", [one.buffers for one in shallow[state]])
        buffers = [float(one.buffers) for one in deep[state]]
        yield Figure(
            f"buffers of a pass, {many}",
            "",
            buffers,
            (Comparison(f"buffers of a pass, {few}", at_most(1.1)),),
        )


def _at(services: Services, depth: int) -> dict[str, list[Round]]:
    with bed(services) as there:
        filled = fill(there, depth, waiting=f"n % {ACCOUNTS}", held=f"n % {ACCOUNTS}")
        never_analyzed = rounds(there, filled, _PASSES)
        there.rows("VACUUM ANALYZE")
        return dict(zip(_STATES, (never_analyzed, rounds(there, filled, _PASSES)), strict=True))


def fill(there: Bed, depth: int, *, waiting: str, held: str) -> Depth:
    """The fleet with its live assignments, and so many jobs waiting; whose each is, in SQL."""
    there.rows("CREATE EXTENSION pg_stat_statements")
    there.rows(_NO_AUTOVACUUM)
    add_accounts(there, ACCOUNTS)
    filled = Depth(there, held)
    filled.connect(CONNECTIONS)
    filled.occupy(LIVE, CONNECTIONS)
    filled.account = waiting
    filled.wait(depth)
    return filled
