"""
The line `bloat`: how Crawlyard's tables and indexes grow during a million lives at a steady depth and rate.

Real workers delete rows half a minute after they have ended (the ids of handled messages after two minutes). So there
are as many rows at the end as after the first fifty thousand lives, and all growth is bloat. Autovacuum has its
default settings: it runs once a minute, and rows that died since are still in the tables. The rate is fixed, since
otherwise the figure would depend on the speed of the machine. Relations that are smaller than a mebibyte at first are
left out.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmarks.harness.bed import Bed, bed, wait_until
from benchmarks.harness.figures import Figure, at_most
from benchmarks.harness.paced import Paced
from benchmarks.harness.world import add_accounts, add_crawlers
from console.embedded.servers import Services
from persistence.schema import tables

if TYPE_CHECKING:
    from concurrent.futures import Future

FIRST, LIVES = 50_000, 1_000_000
DEPTH = 10_000
RATE = 500
"""Lives per second; the drive catches up if it falls behind."""
_LEAST_RATE = 0.95 * RATE

_ACCOUNTS = 50
_CRAWLERS, _CAPACITY = 100, 50
_LEAST = 2**20

_KEPT_S = "30"
_KEPT = {
    f"CRAWLYARD_KEEP_{what}": _KEPT_S for what in ("JOBS", "EVENTS", "CONNECTIONS", "ERRORS", "REJECTED")
} | {
    "CRAWLYARD_KEEP_HANDLED": "120",  # the drive asks whether its messages were handled
    "CRAWLYARD_CLEAN_UP_INTERVAL": "5",
}

_SIZES = """
    SELECT r.relname, pg_relation_size(r.oid) + COALESCE(pg_relation_size(NULLIF(r.reltoastrelid, 0)), 0)
      FROM pg_class t LEFT JOIN pg_index i ON i.indrelid = t.oid
      JOIN pg_class r ON r.oid IN (t.oid, i.indexrelid)
     WHERE t.relname = ANY (%s) GROUP BY r.oid
"""


def measure(services: Services) -> Iterator[Figure]:
    """All relations together, and the one that grew most."""
    with bed(services) as there, there.workers(**_KEPT):
        fleet = add_crawlers(there, _CRAWLERS, _CAPACITY)
        drive = Paced(there, add_accounts(there, _ACCOUNTS), fleet, DEPTH, rate=RATE)
        drive.fill()
        with drive.running() as driving:
            before, after = (_sizes_after(drive, driving, lives) for lives in (FIRST, LIVES))
        if drive.ended / drive.seconds < _LEAST_RATE:
            raise RuntimeError(f"the machine is too slow: {drive.ended / drive.seconds:.0f} lives per second")
    growth = {name: after[name] / size for name, size in before.items() if size >= _LEAST}
    worst = max(growth, key=growth.__getitem__)
    total = sum(after.values()) / sum(before.values())
    yield Figure(f"growth of all tables and indexes in {LIVES:,} lives", "x", [total], aim=at_most(2))
    yield Figure(f"the largest growth, of {worst}", "x", [growth[worst]], aim=at_most(2))


def _sizes_after(drive: Paced, driving: "Future[None]", lives: int) -> dict[str, int]:
    patience = 1.25 * lives / RATE
    has_come = lambda: drive.ended >= lives or driving.done()  # noqa: E731
    wait_until(has_come, f"{lives} lives have ended", patience=patience, pause=0.1)
    return _sizes(drive.bed)


def _sizes(there: Bed) -> dict[str, int]:
    """Return the bytes of each of Crawlyard's tables and indexes."""
    mapped = vars(tables).values()
    ours = [table.__tablename__ for table in mapped if hasattr(table, "__tablename__")]
    return dict(there.rows(_SIZES, ours))
