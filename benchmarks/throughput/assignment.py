"""
The line `assignment`: jobs per second that an assignment round assigns, with 1,000,000 and with 10,000 jobs waiting.

There are 1,000 accounts, and 50,000 live attempts on 12,500 connections, each of which has one free slot. A round
assigns 1,000 jobs and is timed including its commit; its buffers are those of all its statements. Each depth is
measured twice: before any table was analyzed, with autovacuum off, and after VACUUM ANALYZE.
"""

from collections.abc import Iterator

from benchmarks.harness.bed import Bed, bed
from benchmarks.harness.depth import Depth
from benchmarks.harness.figures import Aim, Comparison, Figure, at_most
from benchmarks.harness.rounds import SLOTS, Round, rounds
from benchmarks.harness.world import add_accounts
from console.embedded.servers import Services

DEPTHS = (10_000, 1_000_000)
LIVE, CONNECTIONS, ACCOUNTS = 50_000, 12_500, 1000

_ROUNDS = 10
"""Per depth, before and after the tables are analyzed."""

_NO_AUTOVACUUM = """
    DO $$ BEGIN EXECUTE (
        SELECT string_agg(format('ALTER TABLE %I SET (autovacuum_enabled = off)', tablename), ';')
          FROM pg_tables WHERE schemaname = 'public');
    END $$
"""

_STATES = ("never analyzed", "analyzed")


def measure(services: Services) -> Iterator[Figure]:
    """Rates, and milliseconds and buffers per round, at both depths."""
    shallow, deep = (_at(services, depth) for depth in DEPTHS)
    for state in _STATES:
        few, many = (f"{depth:,} waiting, {state}" for depth in DEPTHS)
        rates = [SLOTS / one.seconds for one in deep[state]]
        yield Figure(f"assignment, {many}", "jobs/s", rates, aim=Aim(10_000))
        yield Figure(f"assignment round, {few}", "ms", [1000 * one.seconds for one in shallow[state]])
        times = [1000 * one.seconds for one in deep[state]]
        yield Figure(
            f"assignment round, {many}", "ms", times, (Comparison(f"assignment round, {few}", at_most(1.3)),)
        )
        yield Figure(f"buffers per round, {few}", "", [one.buffers for one in shallow[state]])
        buffers = [float(one.buffers) for one in deep[state]]
        yield Figure(
            f"buffers per round, {many}",
            "",
            buffers,
            (Comparison(f"buffers per round, {few}", at_most(1.1)),),
        )


def _at(services: Services, depth: int) -> dict[str, list[Round]]:
    with bed(services) as there:
        filled = fill(there, depth, waiting=f"n % {ACCOUNTS}", live=f"n % {ACCOUNTS}")
        never_analyzed = rounds(there, filled, _ROUNDS)
        there.rows("VACUUM ANALYZE")
        return dict(zip(_STATES, (never_analyzed, rounds(there, filled, _ROUNDS)), strict=True))


def fill(there: Bed, depth: int, *, waiting: str, live: str) -> Depth:
    """Add a fleet with live attempts, and *depth* waiting jobs; *waiting* and *live* are SQL for their accounts."""
    there.rows("CREATE EXTENSION pg_stat_statements")
    there.rows(_NO_AUTOVACUUM)
    add_accounts(there, ACCOUNTS)
    filled = Depth(there, live)
    filled.connect(CONNECTIONS)
    filled.occupy(LIVE, CONNECTIONS)
    filled.account = waiting
    filled.wait(depth)
    return filled
