"""
The line `fairness`: how much of its max-min fair share the worst-served account gets, while one has 99 % of the queue.

The large account has 990,000 waiting jobs, 999 small ones have 10,000 together. Each account has up to 100 live
attempts; there are 50,000. The fair share of an account in a round is the least that any fair division gives it: the
slots raise all accounts to the same number of live attempts, the lowest first, each as far as it has waiting jobs.
"""

from collections.abc import Iterator
from itertools import count, takewhile

from benchmarks.harness.bed import Bed, bed
from benchmarks.harness.figures import Aim, Figure
from benchmarks.harness.rounds import SLOTS, run_round, turn_over
from benchmarks.throughput.assignment import ACCOUNTS, LIVE, fill
from console.embedded.servers import Services

WAITING = 1_000_000

_ROUNDS = 10

_ACCOUNT_OF_WAITING = f"CASE WHEN n % 100 > 0 THEN 0 ELSE 1 + n / 100 % {ACCOUNTS - 1} END"

_ACCOUNT_OF_LIVE = f"floor({ACCOUNTS} * sqrt(n * 7919 % {LIVE} / {LIVE}.0))::int"
"""In no particular order; accounts with higher numbers have more."""

_COUNTS = """
    SELECT a.id, COALESCE(live.jobs, 0), COALESCE(waiting.jobs, 0)
      FROM account a
      LEFT JOIN (SELECT account_id, count(*) AS jobs FROM job_assignment_mapping
                  WHERE status IN ('assigned', 'running') GROUP BY 1) live ON live.account_id = a.id
      LEFT JOIN (SELECT account_id, count(*) AS jobs FROM job_queue
                  WHERE status = 'pending' GROUP BY 1) waiting ON waiting.account_id = a.id
"""

Counts = dict[str, tuple[int, int]]
"""Per account: its live attempts, and its waiting jobs."""


def measure(services: Services) -> Iterator[Figure]:
    """The lowest ratio of assigned jobs to fair share among the accounts of a round."""
    with bed(services) as there:
        depth = fill(there, WAITING, waiting=_ACCOUNT_OF_WAITING, live=_ACCOUNT_OF_LIVE)
        ratios = []
        for _ in range(_ROUNDS):
            before = _counts(there)
            run_round(there)
            ratios.append(_least(before, _counts(there)))
            turn_over(depth)
    yield Figure("part of its fair share that the worst-served account gets", "", ratios, aim=Aim(0.95))


def _counts(there: Bed) -> Counts:
    return {account: (live, waiting) for account, live, waiting in there.rows(_COUNTS)}


def _least(before: Counts, after: Counts) -> float:
    shares = _shares(before)
    served = {account: after[account][0] - before[account][0] for account in shares}
    return min(served[account] / share for account, share in shares.items() if share)


def _shares(counts: Counts) -> dict[str, int]:
    """Return the fair shares: at the highest level to which SLOTS slots raise every account."""
    levels = (_up_to(level, counts) for level in count(1))
    return list(takewhile(lambda shares: sum(shares.values()) <= SLOTS, levels))[-1]


def _up_to(level: int, counts: Counts) -> dict[str, int]:
    return {account: min(waiting, max(0, level - live)) for account, (live, waiting) in counts.items()}
