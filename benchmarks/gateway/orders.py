"""
Milliseconds from the COMMIT of the web app's insert of a job until the order is read by a crawler.

The web app publishes jobs.enqueue after the COMMIT; the crawlers have free slots. One job at a time is timed: on an
idle system, and while whole lives run through the gateway at half of the rate that was reached just before.
"""

import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from threading import Event, Thread
from typing import Any

from ulid import ULID

from benchmarks.gateway.crawlers import PROBE
from benchmarks.gateway.running import Fleet, fleet, free_address, gateways
from benchmarks.harness.bed import Bed, bed, wait_until
from benchmarks.harness.figures import Comparison, Figure, at_most, percentiles
from benchmarks.harness.paced import SWITCH_S
from benchmarks.harness.probe import ACCOUNT, INSERT
from benchmarks.harness.world import HOST, add_accounts, orders
from console.embedded.servers import Services

SAMPLES = 200
LIVES = 4000
"""To find the rate that can be reached."""

CRAWLERS, CAPACITY, ACCOUNTS = 40, 50, 50

_BATCH = 100
_FULL, _HALF = "lives through the gateway at full load", "lives through the gateway, during the samples"

_ORDER = "from COMMIT to the order at its crawler"


def measure(services: Services) -> Iterator[Figure]:
    """Percentiles, on an idle system and at half load, and the rates of lives."""
    address = free_address()
    with (
        bed(services) as there,
        there.workers(),
        gateways(there, address),
        fleet(there, [address], CRAWLERS, CAPACITY, ends=True) as crawlers,
    ):
        there.rows("INSERT INTO account (id, access_token) VALUES (%s, 'glpat-x')", ACCOUNT)
        there.rows(
            "INSERT INTO account_origin (account_id, origin, bound_by) VALUES (%s, %s, 'operator')",
            ACCOUNT,
            f"https://{HOST}",
        )
        idle = [_sample(there, crawlers, is_idle=True) for _ in range(SAMPLES)]
        yield from percentiles(f"{_ORDER}, idle", idle, {50: at_most(20), 99: at_most(60)})
        new = orders(add_accounts(there, ACCOUNTS))
        rate = _full_load(there, crawlers, new)
        with _load(there, new, rate / 2):
            begun, before = crawlers.tick()
            samples = [_sample(there, crawlers, is_idle=False) for _ in range(SAMPLES)]
            ended, after = crawlers.tick()
        half = (after["orders"] - before["orders"]) / (ended - begun)
    yield Figure(_FULL, "/s", [rate])
    yield Figure(_HALF, "/s", [half], (Comparison(_FULL),))
    yield from percentiles(f"{_ORDER}, at half load", samples, {99: at_most(250)})


def _sample(there: Bed, crawlers: Fleet, *, is_idle: bool) -> float:
    if is_idle:
        there.until_idle()
    time.sleep(random.uniform(0.05, 0.15) if is_idle else random.uniform(0, 0.05))
    job_id = str(ULID())
    there.rows(INSERT, job_id, f"{PROBE}{job_id}")
    begun = time.monotonic()
    there.publisher.publish("jobs.enqueue", job_ids=[job_id])
    return crawlers.until_ordered(job_id, 60) - begun


def _full_load(there: Bed, crawlers: Fleet, new: Iterator[dict[str, Any]]) -> float:
    """Return the lives a second where all are queued at once."""
    goal = crawlers.tick()[1]["orders"] + LIVES
    begun = time.monotonic()
    for _ in range(LIVES // _BATCH):
        there.publisher.publish("jobs.submit", orders=list(islice(new, _BATCH)))
    wait_until(lambda: crawlers.counts["orders"] >= goal, "all lives are ordered")
    there.until_idle()
    return LIVES / (time.monotonic() - begun)


@contextmanager
def _load(there: Bed, new: Iterator[dict[str, Any]], rate: float) -> Iterator[None]:
    """Submit *rate* jobs a second meanwhile, in a thread."""
    done, interval = Event(), sys.getswitchinterval()

    def submit() -> None:
        begun, count = time.monotonic(), 0
        while not done.wait(0.002):
            if count < (time.monotonic() - begun) * rate:
                there.publisher.publish("jobs.submit", orders=list(islice(new, _BATCH)))
                count += _BATCH

    thread = Thread(target=submit)
    sys.setswitchinterval(SWITCH_S)
    thread.start()
    try:
        yield
    finally:
        done.set()
        sys.setswitchinterval(interval)
        thread.join()
