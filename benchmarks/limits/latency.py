"""
The line `latency`: milliseconds until an order can be read in crawler_order by a client that is notified of events.

Measured from the COMMIT of the web app's insert of a job, after which it publishes jobs.enqueue; and from the
job_request of a crawler with a free slot while a job waits. One job at a time is measured: on an idle system, and
while whole lives run at half of the rate that was reached just before. Under load, the first kind needs a fleet with
free slots, and the second a full fleet with jobs waiting.
"""

import random
import time
from collections.abc import Callable, Iterator

import psycopg

from benchmarks.harness.bed import Bed, bed
from benchmarks.harness.figures import Aim, Comparison, Figure, at_most, percentiles
from benchmarks.harness.lives import Drive
from benchmarks.harness.paced import Paced
from benchmarks.harness.probe import ACCOUNT, Probe
from benchmarks.harness.world import add_accounts, add_crawlers
from console.embedded.servers import Services

SAMPLES = 200
"""Per kind."""

LIVES = 6000
"""To find the rate that can be reached."""

_ACCOUNTS, _CRAWLERS, _CAPACITY, _DEPTH = 50, 40, 50, 1000

_PAUSE_S = 0.05
"""Upper bound of the random pause before a sample under load, so that samples are not in step with the messages."""

_FULL, _HALF = "lives at full load", "lives at half load, during the samples"


def measure(services: Services) -> Iterator[Figure]:
    """Percentiles of each kind, on an idle system and under load."""
    with bed(services) as there, there.workers():
        there.rows("INSERT INTO account (id) VALUES (%s)", ACCOUNT)
        with (
            psycopg.connect(there.database_url, autocommit=True) as session,
            psycopg.connect(there.database_url, autocommit=True) as listener,
        ):
            probe = Probe(there, session, listener, *add_crawlers(there, 1, 1))
            yield from _idle(there, probe)
            yield from _under_load(there, probe)


def _idle(there: Bed, probe: Probe) -> Iterator[Figure]:
    def insert() -> float:
        there.until_idle()
        seconds = probe.since_commit()
        probe.complete()
        return seconds

    def ask() -> float:
        there.until_idle()
        return probe.since_request()

    inserted = _samples(insert)
    probe.queue(SAMPLES)
    asked = _samples(ask)
    yield from _figures("idle", inserted, asked, {50: at_most(15), 99: at_most(60)})


def _under_load(there: Bed, probe: Probe) -> Iterator[Figure]:
    accounts = add_accounts(there, _ACCOUNTS)
    fleet = add_crawlers(there, _CRAWLERS, _CAPACITY)
    drive = Drive(there, accounts, fleet, _DEPTH)
    drive.fill()
    rate = LIVES / drive.run(LIVES)
    drive.drain()
    some = Paced(there, accounts, fleet, 0, drive.submitted, rate=rate / 2)
    with some.running():
        inserted = _samples(lambda: _out_of_step(probe.since_commit))
    some.drain()
    slots = _CRAWLERS * _CAPACITY
    full = Paced(there, accounts, fleet, slots + _DEPTH, drive.submitted + some.submitted, rate=rate / 2)
    full.fill()
    there.until_idle()
    full.depth -= slots  # all slots are used now
    with full.running():
        asked = _samples(lambda: _out_of_step(probe.since_request))
    yield Figure(_FULL, "/s", [rate])
    yield Figure(_HALF, "/s", [one.ended / one.seconds for one in (some, full)], (Comparison(_FULL),))
    yield from _figures("at half load", inserted, asked, {99: at_most(250)})


def _samples(sample: Callable[[], float]) -> list[float]:
    return [sample() for _ in range(SAMPLES)]


def _out_of_step(sample: Callable[[], float]) -> float:
    time.sleep(random.uniform(0, _PAUSE_S))
    return sample()


def _figures(under: str, inserted: list[float], asked: list[float], aims: dict[int, Aim]) -> Iterator[Figure]:
    for since, samples in (("COMMIT", inserted), ("job_request", asked)):
        yield from percentiles(f"from {since} to the order, {under}", samples, aims)
