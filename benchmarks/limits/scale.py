"""
The line `scale`: lives per second, and the time of an assignment round, while one quantity grows.

For depth, accounts and connections, whole lives run in this process, one message after the other, so that only the
database's work is measured. For workers, lives run through real workers with one pool process each, which share the
machine's cores with PostgreSQL and the benchmark. `benchmarks.charts` draws the figures.
"""

from collections.abc import Iterator

from benchmarks.harness.bed import bed
from benchmarks.harness.depth import Depth
from benchmarks.harness.figures import Figure
from benchmarks.harness.lives import Drive
from benchmarks.harness.local import Rounds
from benchmarks.harness.world import add_accounts, add_crawlers
from console.embedded.servers import Services

DEPTHS = (1_000, 10_000, 100_000, 1_000_000)
ACCOUNTS = (10, 100, 1_000, 10_000)
CONNECTIONS = (10, 100, 1_000, 10_000)
WORKERS = (1, 2, 4)

ROUNDS = 5
LIVES = 2_000
"""Per round."""
LIVES_OF_WORKERS = 8_000
"""Per round, through messages: many more than are in flight at a time."""

_SLOTS = 1_000
"""Of the whole fleet; if it has more connections, each has one slot."""

_IDS = "SELECT id FROM socket_connection ORDER BY id"


def measure(services: Services) -> Iterator[Figure]:
    """The figures of each value of each quantity."""
    for depth in DEPTHS:
        yield from _figures("jobs waiting", depth, *_rounds(services, depth=depth))
    for accounts in ACCOUNTS:
        yield from _figures("accounts", accounts, *_rounds(services, accounts=accounts))
    for connections in CONNECTIONS:
        yield from _figures("connections", connections, *_rounds(services, connections=connections))
    for workers in WORKERS:
        yield from _figures("workers", workers, _through_workers(services, workers))


def _figures(
    axis: str, at: int, rates: list[float], assignments: list[float] | None = None
) -> Iterator[Figure]:
    yield Figure(f"lives, {axis}: {at:,}", "/s", rates, at=(axis, at))
    if assignments:
        yield Figure(f"assignment round, {axis}: {at:,}", "ms", assignments, at=(axis, at))


def _rounds(
    services: Services, *, depth: int = 10_000, accounts: int = 100, connections: int = 100
) -> tuple[list[float], list[float]]:
    """Return the lives per second of each round, and the milliseconds of each assignment round."""
    with bed(services) as there:
        owners = add_accounts(there, accounts)
        fleet = Depth(there, f"n % {accounts}")
        fleet.connect(connections, max(_SLOTS // connections, 1))
        fleet.wait(depth)
        there.rows("VACUUM ANALYZE")
        rounds = Rounds(there, owners, [id_ for (id_,) in there.rows(_IDS)])
        rounds.run(LIVES)
        rounds.assignments.clear()
        rates = [LIVES / rounds.run(LIVES) for _ in range(ROUNDS)]
        return rates, [1000 * seconds for seconds in rounds.assignments]


def _through_workers(services: Services, workers: int) -> list[float]:
    """Return the lives per second of each round."""
    with bed(services) as there:
        owners = add_accounts(there, 50)
        with there.workers(workers, children=1):
            drive = Drive(there, owners, add_crawlers(there, 100, 50), depth=10_000)
            drive.fill()
            drive.run(LIVES)
            return [LIVES_OF_WORKERS / drive.run(LIVES_OF_WORKERS) for _ in range(ROUNDS)]
