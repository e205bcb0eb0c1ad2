"""The line `gateway`, and `gateway_10000` with as many links as the aims name."""

from collections.abc import Iterator

from benchmarks.gateway import ends, frames, idle, orders
from benchmarks.harness.figures import Figure
from console.embedded.servers import Services

LINKS, AIMED_LINKS = 2_000, 10_000


def measure(services: Services) -> Iterator[Figure]:
    """All figures, with 2,000 links where many are needed."""
    yield from frames.measure(services)
    yield from orders.measure(services)
    yield from idle.measure(services, LINKS)
    yield from ends.measure(services, LINKS)


def measure_10_000(services: Services) -> Iterator[Figure]:
    """Those that need many links, with 10,000; the limit of descriptors must be over 10,200."""
    yield from idle.measure(services, AIMED_LINKS)
    yield from ends.measure(services, AIMED_LINKS)
