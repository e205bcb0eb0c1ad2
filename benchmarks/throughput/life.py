"""
The lines `life` and `life_among_many`: whole lives of jobs per second, compared with the same transitions in bare SQL.

Crawlyard's run through messages and real workers, on the shared table with all its indexes, with events and all
guarantees. Both take turns, each round in a database of its own: an empty one, or one in which a million jobs have
ended.
"""

from collections.abc import Iterator

from benchmarks.harness.bed import Bed, bed
from benchmarks.harness.depth import Depth
from benchmarks.harness.figures import Aim, Comparison, Figure
from benchmarks.harness.lives import BATCH, Drive
from benchmarks.harness.world import add_accounts, add_crawlers
from benchmarks.throughput import bare_sql, noop, one_at_a_time, same_work
from console.embedded.servers import Services

ROUNDS = 3
LIVES = 8_000
DEPTH = 10_000
"""Jobs that wait all the time."""
MANY = 1_000_000
"""Jobs that had ended before, for `life_among_many`."""

_ACCOUNTS = 50
_CRAWLERS, _CAPACITY = 100, 50

BARE, OURS = "lives in bare SQL", "lives through Crawlyard"

COMPARISONS = (
    Comparison(BARE, aim=Aim(0.6)),
    Comparison(one_at_a_time.FIGURE),
    *(Comparison(name, aim=Aim(2.0)) for name in same_work.FIGURES.values()),
    *(Comparison(peer.figure, aim=peer.aim) for peer in noop.PEERS),
)
"""Those with peers compare our lives with their no-op jobs, and with their whole lives."""

_ENDED = """
    SELECT count(*) FROM job JOIN job_assignment_mapping a ON a.web_app_job_id = job.id
     WHERE job.status = 'finished' AND a.status = 'completed' AND a.stale_words = 0
"""


def measure(services: Services) -> Iterator[Figure]:
    """Both figures, in lives per second."""
    bare, ours = _rounds(services, ended=0)
    yield Figure(BARE, "/s", bare)
    yield Figure(OURS, "/s", ours, comparisons=COMPARISONS)


def measure_among_many(services: Services) -> Iterator[Figure]:
    """The same, after many jobs have ended."""
    bare, ours = _rounds(services, ended=MANY)
    among = f", {MANY:,} jobs in the table"
    yield Figure(f"{BARE}{among}", "/s", bare)
    yield Figure(f"{OURS}{among}", "/s", ours, (Comparison(f"{BARE}{among}", Aim(0.6)),))


def _rounds(services: Services, *, ended: int) -> tuple[list[float], list[float]]:
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for measured, lives in zip(rates, (_bare, _ours), strict=True):
            with bed(services) as there:
                accounts = add_accounts(there, _ACCOUNTS)
                if ended:
                    Depth(there, f"n % {_ACCOUNTS}").leave(ended)
                    there.rows("VACUUM ANALYZE")
                measured.append(lives(there, accounts))
    return rates


def _bare(there: Bed, accounts: list[str]) -> float:
    crawlers = add_crawlers(there, _CRAWLERS, _CAPACITY)
    before = there.one(_ENDED)
    seconds = bare_sql.measure(there, accounts, crawlers, LIVES, DEPTH)
    return (there.one(_ENDED) - before) / seconds  # type: ignore[no-any-return]


def _ours(there: Bed, accounts: list[str]) -> float:
    with there.workers():
        crawlers = add_crawlers(there, _CRAWLERS, _CAPACITY)
        drive = Drive(there, accounts, crawlers, DEPTH)
        drive.fill()
        before = there.one(_ENDED)
        seconds = drive.run(LIVES)
        ended: int = there.one(_ENDED) - before
    if not 0 <= ended - LIVES <= drive.in_flight * BATCH:
        raise RuntimeError(f"{ended} lives have ended in the tables, and {LIVES} were driven")
    return ended / seconds
