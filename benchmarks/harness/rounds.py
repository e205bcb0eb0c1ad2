"""
Matchmaking passes, one by one, in this process: the task `jobs.assign` as a worker runs it, without the worker.

Between two passes, outside of the timing, as many attempts complete as a pass has seated and as many
new jobs come, so that every pass finds the same depth, the same live assignments and as many free seats.
"""

from dataclasses import dataclass

from benchmarks.harness.bed import Bed
from benchmarks.harness.depth import Depth
from benchmarks.harness.local import deliver

SEATS = 1000
"""What one pass fills at most."""

_WARM_UP = 2
"""Passes that are not counted: the first opens the accounts' lanes."""

_ATTEMPTS = "SELECT count(*) FROM job_assignment_mapping"

_FORGET = (
    "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()))"
)

_BUFFERS = """
    SELECT sum(shared_blks_hit + shared_blks_read)::bigint
      FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid
     WHERE datname = current_database() AND query NOT LIKE '%pg_stat_statements%'
"""


@dataclass(frozen=True)
class Round:
    """One that seated SEATS jobs."""

    seconds: float
    """With its commit."""
    buffers: int
    """Pages that its statements looked at, in the cache or not."""


def rounds(there: Bed, depth: Depth, count: int) -> list[Round]:
    """So many passes, after some to warm up."""
    ran = []
    for _ in range(_WARM_UP + count):
        ran.append(run_round(there))
        turn_over(depth)
    return ran[_WARM_UP:]


def run_round(there: Bed) -> Round:
    """One pass. Raises RuntimeError where it fills fewer seats."""
    before = there.one(_ATTEMPTS)
    there.rows(_FORGET)
    ran = Round(deliver("jobs.assign"), there.one(_BUFFERS))
    assigned = there.one(_ATTEMPTS) - before
    if assigned != SEATS:
        raise RuntimeError(f"a pass seated {assigned} jobs of {SEATS}")
    return ran


def turn_over(depth: Depth) -> None:
    """Let as many attempts complete as a pass has seated, and as many new jobs come."""
    depth.complete(SEATS)
    depth.wait(SEATS)
