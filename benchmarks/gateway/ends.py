"""
How long crawlers are without a link when their gateway ends, and what that loses.

Each crawler holds a job. One gateway is killed with SIGKILL and started again at once; another one gets SIGTERM while a
second one runs, to which the crawlers turn. Measured from the signal until each crawler is welcome again. Lost is each
attempt that is closed after the time in which the loss of a link would show.
"""

import time
from collections.abc import Iterator
from itertools import islice

from benchmarks.gateway.running import Fleet, fleet, free_address, gateways
from benchmarks.harness.bed import Bed, bed, wait_until
from benchmarks.harness.figures import Figure, at_most
from benchmarks.harness.world import add_accounts, orders
from console.embedded.servers import Services
from persistence.settings import settings

_LOST = "SELECT count(*) FROM job_assignment_mapping WHERE completed_at IS NOT NULL"
_SUBMITTED_AT_ONCE = 250
_AIMED_S, _AIMED_DRAIN_S = 60, 25


def measure(services: Services, links: int) -> Iterator[Figure]:
    """Seconds until all are welcome again, and lost attempts, after SIGKILL and SIGTERM."""
    yield from _killed(services, links)
    yield from _drained(services, links)


def _killed(services: Services, links: int) -> Iterator[Figure]:
    address = free_address()
    with (
        bed(services) as there,
        there.workers(CRAWLYARD_CONNECTION_TIMEOUT="90"),
        gateways(there, address) as (gateway,),
        fleet(there, [address], links, 1) as crawlers,
    ):
        _occupy(there, crawlers)
        begun = time.monotonic()
        gateway.kill()
        gateway.start()
        seconds = crawlers.until_welcome(2) - begun
        yield from _figures(there, f"{links:,} links after kill -9", seconds)


def _drained(services: Services, links: int) -> Iterator[Figure]:
    first, second = free_address(), free_address()
    with (
        bed(services) as there,
        there.workers(CRAWLYARD_CONNECTION_TIMEOUT="90"),
        gateways(there, first, second) as (drained, _),
        fleet(there, [first], links, 1, spare=[second]) as crawlers,
    ):
        _occupy(there, crawlers)
        begun = time.monotonic()
        drained.drain()
        gone = time.monotonic() - begun
        seconds = crawlers.until_welcome(2) - begun
        yield Figure(f"drain of {links:,} links, until it is gone", "s", [gone], aim=at_most(_AIMED_DRAIN_S))
        yield from _figures(there, f"{links:,} links after SIGTERM", seconds)


def _occupy(there: Bed, crawlers: Fleet) -> None:
    """Give each crawler a job."""
    new = orders(add_accounts(there, 50))
    for _ in range(-(-crawlers.count // _SUBMITTED_AT_ONCE)):
        there.publisher.publish("jobs.submit", orders=list(islice(new, _SUBMITTED_AT_ONCE)))
    wait_until(lambda: crawlers.counts.get("orders", 0) >= crawlers.count, "each crawler has a job")
    there.until_idle()


def _figures(there: Bed, what: str, seconds: float) -> Iterator[Figure]:
    time.sleep((settings().resume_window + 2 * settings().sweep_interval).total_seconds())
    yield Figure(f"{what}, until all are welcome", "s", [seconds], aim=at_most(_AIMED_S))
    yield Figure(f"{what}, attempts lost", "", [there.one(_LOST)], aim=at_most(0))
