"""
The line `noop`: jobs per second that do nothing, in the alternatives to Crawlyard (the peers).

Timed from the first enqueue until the peer's own tables or counters show that the last job has ended. One process
enqueues in batches, two processes work. All rounds of a peer share one database.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from celery import Celery

from benchmarks.harness.bed import Bed, bed, wait_until
from benchmarks.harness.figures import Aim, Figure
from benchmarks.peers.processes import Program, install, programs, submitter
from console.embedded.servers import Services

ROUNDS = 3
_WARM_UP = 500
_LOOK_S = 0.05
"""Between two counts: about a fiftieth of a round. A count takes less than that."""

_PROCRASTINATE = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"
_PGQUEUER = "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'"
_AWA = """
    SELECT (SELECT coalesce(sum(completed_count), 0) FROM awa.receipt_completion_batches)
         + (SELECT coalesce(sum(pruned_completed_count), 0) FROM awa.queue_terminal_rollups)
         + (SELECT count(*) FROM awa.done_entries WHERE state = 'completed')
"""


@dataclass(frozen=True)
class Peer:
    """How a peer is measured."""

    title: str
    name: str
    """The name of its module."""
    jobs: int
    """Per round; they take a few seconds."""
    left: Callable[[Bed, int], int]
    """Returns how many of the given number of submitted jobs have not ended."""
    workers: int = 2
    ran: Callable[[Bed], int] | None = None
    """Returns how many jobs have run, if *left* does not count them."""
    aim: Aim | None = None
    """The ratio that Crawlyard's whole lives must reach to the peer's no-op jobs."""

    @property
    def figure(self) -> str:
        """The name of its figure."""
        return f"no-op jobs of {self.title}"


def _by(sql: str) -> Callable[[Bed, int], int]:
    return lambda there, submitted: submitted - there.one(sql)


def _ran_by_celery(there: Bed) -> int:
    """Ask the workers over the broker for their counts, which takes a second."""
    with Celery(broker=there.services.broker_url) as client:
        client.conf.broker_transport = "kombu.transport.redis:Transport"  # Crawlyard's is not registered here
        return sum(worker["total"]["noop"] for worker in client.control.inspect().stats().values())


def _in_broker(there: Bed, _submitted: int) -> int:
    return there.broker.llen("celery") + there.broker.hlen("unacked")  # type: ignore[operator]


PEERS = (
    Peer("Celery", "celery", 3_000, _in_broker, workers=1, ran=_ran_by_celery),  # two children
    Peer("Procrastinate", "procrastinate", 2_000, _by(_PROCRASTINATE), aim=Aim(3.0)),
    Peer("PgQueuer", "pgqueuer", 30_000, _by(_PGQUEUER)),
    Peer("awa", "awa", 20_000, _by(_AWA)),
)


def measure(services: Services) -> Iterator[Figure]:
    """One figure per peer, in jobs per second."""
    for peer in PEERS:
        with bed(services) as there:
            yield Figure(peer.figure, "/s", _rounds(there, peer))


def _rounds(there: Bed, peer: Peer) -> list[float]:
    install(there, peer.name)
    with programs(there, peer.name, "work", peer.workers), submitter(there, peer.name) as producer:
        _drain(there, peer, producer, _WARM_UP, 0)
        rates = [
            peer.jobs / _drain(there, peer, producer, peer.jobs, _WARM_UP + number * peer.jobs)
            for number in range(ROUNDS)
        ]
        if peer.ran and (ran := peer.ran(there)) != _WARM_UP + ROUNDS * peer.jobs:
            raise RuntimeError(f"{peer.title} has run {ran} jobs")
    return rates


def _drain(there: Bed, peer: Peer, producer: Program, jobs: int, before: int) -> float:
    """Return the seconds from the first enqueue to the end of the last job."""
    begun = time.monotonic()
    producer.send(str(jobs))
    producer.until_ready()
    wait_until(
        lambda: peer.left(there, before + jobs) <= 0, f"{peer.title} has done {jobs} jobs", pause=_LOOK_S
    )
    seconds = time.monotonic() - begun
    if (left := peer.left(there, before + jobs)) != 0:
        raise RuntimeError(f"{peer.title} counts {-left} more jobs than were submitted")
    return seconds
