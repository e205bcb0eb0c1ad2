"""
The line `life`: whole lives of jobs a second, beside the same transitions in bare SQL.

On the shared table with all its indexes, with events and every guarantee, through messages and real
workers. Rounds of both take turns, each in a database of its own.
"""

from collections.abc import Iterator

from benchmarks import bare_sql, noop, one_at_a_time, same_work
from benchmarks.bed import Bed, bed
from benchmarks.figures import Aim, Comparison, Figure
from benchmarks.lives import BATCH, Drive
from benchmarks.world import add_accounts, add_crawlers
from console.services.embedded import Services

ROUNDS = 3
LIVES = 8_000
DEPTH = 10_000
"""Jobs that wait throughout."""

_ACCOUNTS = 50
_CRAWLERS, _CAPACITY = 100, 50

BARE, OURS = "lives in bare SQL", "lives through Crawlyard"

COMPARISONS = (
    Comparison(BARE, aim=Aim(0.6)),
    Comparison(one_at_a_time.FIGURE),
    *(Comparison(name, aim=Aim(2.0)) for name in same_work.FIGURES.values()),
    *(Comparison(peer.figure, aim=peer.aim) for peer in noop.PEERS),
)
"""Those with peers say what part of their empty jobs, and how many times their whole lives, ours are."""

_ENDED = """
    SELECT count(*) FROM job JOIN job_assignment_mapping a ON a.web_app_job_id = job.id
     WHERE job.status = 'finished' AND a.status = 'completed' AND a.stale_words = 0
"""


def measure(services: Services) -> Iterator[Figure]:
    """Both figures, in lives a second."""
    bare, ours = [], []
    for _ in range(ROUNDS):
        with bed(services) as there:
            bare.append(_bare(there))
        with bed(services) as there:
            ours.append(_ours(there))
    yield Figure(BARE, "/s", bare)
    yield Figure(OURS, "/s", ours, comparisons=COMPARISONS)


def _bare(there: Bed) -> float:
    accounts = add_accounts(there, _ACCOUNTS)
    with there.workers():
        crawlers = add_crawlers(there, _CRAWLERS, _CAPACITY)
    seconds = bare_sql.measure(there, accounts, crawlers, LIVES, DEPTH)
    return there.one(_ENDED) / seconds  # type: ignore[no-any-return]


def _ours(there: Bed) -> float:
    accounts = add_accounts(there, _ACCOUNTS)
    with there.workers():
        crawlers = add_crawlers(there, _CRAWLERS, _CAPACITY)
        drive = Drive(there, accounts, crawlers, DEPTH)
        drive.fill()
        before = there.one(_ENDED)
        seconds = drive.run(LIVES)
        ended: int = there.one(_ENDED) - before
    if not 0 <= ended - LIVES <= drive.in_flight * BATCH:
        raise RuntimeError(f"{ended} rows say that a life has ended, and {LIVES} lives were driven")
    return ended / seconds
