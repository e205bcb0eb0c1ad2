"""
The line `noop`: jobs a second that do nothing, of what people would otherwise use.

Timed from the first enqueue until the peer's own tables, or counters, say that the last has ended;
enqueued in batches by one process, worked off by two. Rounds of a peer share one database.
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
"""Between two counts: a fiftieth of a round, and they cost less than that."""

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
    """Of its module."""
    jobs: int
    """A round; a few seconds' worth."""
    left: Callable[[Bed, int], int]
    """How many of so many submitted jobs have not ended."""
    workers: int = 2
    ran: Callable[[Bed], int] | None = None
    """How many have run, where *left* does not count them."""
    aim: Aim | None = None
    """How many of its empty jobs one whole life of ours is to outrun."""

    @property
    def figure(self) -> str:
        """The name of its figure."""
        return f"no-op jobs of {self.title}"


def _by(sql: str) -> Callable[[Bed, int], int]:
    return lambda there, submitted: submitted - there.one(sql)


def _ran_by_celery(there: Bed) -> int:
    """What the workers count, asked over the broker, which takes a second."""
    with Celery(broker=there.services.broker_url) as client:
        client.conf.broker_transport = "kombu.transport.redis:Transport"  # ours is not registered in here yet
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
    """A figure a peer, in jobs a second."""
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
    """Seconds from the first enqueue to the last end."""
    begun = time.monotonic()
    producer.send(str(jobs))
    producer.until_ready()
    wait_until(
        lambda: peer.left(there, before + jobs) <= 0, f"{peer.title} has done {jobs} jobs", pause=_LOOK_S
    )
    seconds = time.monotonic() - begun
    if (left := peer.left(there, before + jobs)) != 0:
        raise RuntimeError(f"{peer.title} counts {-left} jobs more than there were")
    return seconds
