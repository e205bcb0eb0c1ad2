"""
How many frames a second come in through one gateway.

Crawlers report progress on jobs that they hold, each with few frames that are not acknowledged, so that no report
replaces another. A frame counts when it is acknowledged, that is when workers have applied it. Workers are slower than
a gateway, and the crawlers need a core too; so the frames are also divided by the CPU time of the gateway's process,
with all that it does meanwhile.
"""

import time
from collections.abc import Iterator
from itertools import islice

from benchmarks.gateway.running import fleet, free_address, gateways
from benchmarks.harness.bed import bed, wait_until
from benchmarks.harness.figures import Aim, Figure
from benchmarks.harness.world import add_accounts, orders
from console.embedded.servers import Services

CRAWLERS, CAPACITY, WINDOW = 40, 25, 40
SECONDS = 15.0

_SETTLES_S = 4.0


def measure(services: Services) -> Iterator[Figure]:
    """Frames that are acknowledged, a second and a second of the gateway's CPU time."""
    address = free_address()
    with (
        bed(services) as there,
        there.workers(),
        gateways(there, address) as (gateway,),
        fleet(there, [address], CRAWLERS, CAPACITY) as crawlers,
    ):
        jobs = CRAWLERS * CAPACITY
        there.publisher.publish("jobs.submit", orders=list(islice(orders(add_accounts(there, 50)), jobs)))
        wait_until(lambda: crawlers.counts.get("orders", 0) >= jobs, "each crawler has its orders")
        crawlers.send(f"flood {WINDOW}")
        time.sleep(_SETTLES_S)
        begun, before = crawlers.tick()
        used = gateway.cpu_seconds
        time.sleep(SECONDS)
        ended, after = crawlers.tick()
        used = gateway.cpu_seconds - used
        frames = after["acknowledged"] - before["acknowledged"]
        crawlers.send("quiet")
    yield Figure("frames in, until workers have applied them", "/s", [frames / (ended - begun)])
    yield Figure("frames in, a core second of the gateway", "", [frames / used], aim=Aim(10_000))
