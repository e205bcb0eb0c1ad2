"""
The line `fairness`: what the worst served account gets of its max-min fair share, while one holds 99 % of the queue.

The large account has 990,000 jobs waiting, 999 small ones share 10,000; the accounts have between
none and 100 live assignments, 50,000 together. The share of an account in a pass is what every fair
division gives it at least: the seats raise all accounts to the same level of live assignments, the
lowest first, each as far as it has jobs waiting.
"""

from collections.abc import Iterator
from itertools import count, takewhile

from benchmarks.harness.bed import Bed, bed
from benchmarks.harness.figures import Aim, Figure
from benchmarks.harness.rounds import SEATS, run_round, turn_over
from benchmarks.throughput.assignment import ACCOUNTS, LIVE, fill
from console.embedded.servers import Services

WAITING = 1_000_000

_PASSES = 10

_WHO_WAITS = f"CASE WHEN n % 100 > 0 THEN 0 ELSE 1 + n / 100 % {ACCOUNTS - 1} END"

_WHO_LIVES = f"floor({ACCOUNTS} * sqrt(n * 7919 % {LIVE} / {LIVE}.0))::int"
"""In no order of theirs, and the more the higher their number."""

_COUNTS = """
    SELECT a.id, COALESCE(live.jobs, 0), COALESCE(waiting.jobs, 0)
      FROM account a
      LEFT JOIN (SELECT account_id, count(*) AS jobs FROM job_assignment_mapping
                  WHERE status IN ('assigned', 'running') GROUP BY 1) live ON live.account_id = a.id
      LEFT JOIN (SELECT account_id, count(*) AS jobs FROM job_queue
                  WHERE status = 'pending' GROUP BY 1) waiting ON waiting.account_id = a.id
"""

Counts = dict[str, tuple[int, int]]
"""Of each account: how many of its jobs live, and how many wait."""


def measure(services: Services) -> Iterator[Figure]:
    """The least ratio of served to share among the accounts of a pass."""
    with bed(services) as there:
        depth = fill(there, WAITING, waiting=_WHO_WAITS, held=_WHO_LIVES)
        ratios = []
        for _ in range(_PASSES):
            before = _counts(there)
            run_round(there)
            ratios.append(_least(before, _counts(there)))
            turn_over(depth)
    yield Figure("served of the fair share, the worst account", "", ratios, aim=Aim(0.95))


def _counts(there: Bed) -> Counts:
    return {account: (live, waiting) for account, live, waiting in there.rows(_COUNTS)}


def _least(before: Counts, after: Counts) -> float:
    shares = _shares(before)
    served = {account: after[account][0] - before[account][0] for account in shares}
    return min(served[account] / share for account, share in shares.items() if share)


def _shares(counts: Counts) -> dict[str, int]:
    """Of the SEATS of a pass, at the highest level to which they raise every account."""
    levels = (_up_to(level, counts) for level in count(1))
    return list(takewhile(lambda shares: sum(shares.values()) <= SEATS, levels))[-1]


def _up_to(level: int, counts: Counts) -> dict[str, int]:
    return {account: min(waiting, max(0, level - live)) for account, (live, waiting) in counts.items()}
