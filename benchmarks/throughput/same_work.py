"""
The line `same_work`: whole lives of jobs per second in PgQueuer and awa, with the same rows and depth as in `life`.

They call one handler per job, which writes the rows of `benchmarks/peers/lives.py`. 10,000 jobs wait all the time;
another process submits them in batches. Rounds are intervals of one run; the rows are counted.
"""

import time
from collections.abc import Iterator
from itertools import pairwise

from benchmarks.harness.bed import Bed, bed, wait_until
from benchmarks.harness.figures import Figure
from benchmarks.harness.world import add_accounts, add_crawlers
from benchmarks.peers.processes import install, programs
from console.embedded.servers import Services

ROUNDS = 3
LIVES = 1_500
"""Per round."""
_WARM_UP = 500

_ACCOUNTS = 50
_CRAWLERS, _CAPACITY = 100, 50

_WORKERS = 2
_LOOK_S = 0.1

FIGURES = {"pgqueuer": "lives in PgQueuer", "awa": "lives in awa"}
"""The names of the figures, by the peer's module."""

_ENDED = "SELECT count(*) FROM job_assignment_mapping WHERE status = 'completed'"

_EVENTS_A_LIFE = 6

_WHOLE = """
    SELECT count(*) FROM job JOIN job_assignment_mapping a ON a.web_app_job_id = job.id
     WHERE job.status = 'finished' AND job.started_at <= job.finished_at AND job.progress ->> 'stage' IS NOT NULL
       AND a.status = 'completed' AND a.connection_id IS NOT NULL
       AND (SELECT count(*) FROM dispatch_event e WHERE e.job_id = job.id) = %s
"""


def measure(services: Services) -> Iterator[Figure]:
    """One figure per peer, in lives per second."""
    for peer, name in FIGURES.items():
        with bed(services) as there:
            yield Figure(name, "/s", _rounds(there, peer))


def _rounds(there: Bed, peer: str) -> list[float]:
    add_accounts(there, _ACCOUNTS)
    add_crawlers(there, _CRAWLERS, _CAPACITY)
    install(there, peer)
    with programs(there, peer, "live", _WORKERS), programs(there, peer, "keep"):
        first = there.one(_ENDED) + _WARM_UP
        looks = [_when_ended(there, first + number * LIVES) for number in range(ROUNDS + 1)]
    ended, whole = there.one(_ENDED), there.one(_WHOLE, _EVENTS_A_LIFE)
    if ended != whole:
        raise RuntimeError(f"{ended} lives have ended, and {whole} have all their rows")
    return [(after[0] - before[0]) / (after[1] - before[1]) for before, after in pairwise(looks)]


def _when_ended(there: Bed, lives: int) -> tuple[int, float]:
    """Wait until *lives* lives have ended; return how many had by then, and the time."""

    def look() -> tuple[int, float] | None:
        ended: int = there.one(_ENDED)
        return (ended, time.monotonic()) if ended >= lives else None

    return wait_until(look, f"{lives} lives have ended", pause=_LOOK_S) or (0, 0.0)
