"""
Times assignment rounds one by one in this process: the task `jobs.assign` as a worker runs it, without a worker.

Between two rounds, outside the timing, as many attempts complete and as many jobs are added as a round has
assigned. So every round finds the same numbers of waiting jobs, live attempts and free slots.
"""

from dataclasses import dataclass

from benchmarks.harness.bed import Bed
from benchmarks.harness.depth import Depth
from benchmarks.harness.local import deliver

SLOTS = 1000
"""The most jobs that one round assigns."""

_WARM_UP = 2
"""Rounds that are not counted: the first creates the accounts' queues."""

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
    """A round that assigned SLOTS jobs."""

    seconds: float
    """Including the commit."""
    buffers: int
    """Pages that its statements read, from the cache or not."""


def rounds(there: Bed, depth: Depth, count: int) -> list[Round]:
    """Run *count* rounds, after some to warm up."""
    ran = []
    for _ in range(_WARM_UP + count):
        ran.append(run_round(there))
        turn_over(depth)
    return ran[_WARM_UP:]


def run_round(there: Bed) -> Round:
    """Run one round. Raises RuntimeError if it does not assign SLOTS jobs."""
    before = there.one(_ATTEMPTS)
    there.rows(_FORGET)
    ran = Round(deliver("jobs.assign"), there.one(_BUFFERS))
    assigned = there.one(_ATTEMPTS) - before
    if assigned != SLOTS:
        raise RuntimeError(f"a round assigned {assigned} jobs, not {SLOTS}")
    return ran


def turn_over(depth: Depth) -> None:
    """Complete as many attempts as a round has assigned, and add as many jobs."""
    depth.complete(SLOTS)
    depth.wait(SLOTS)
