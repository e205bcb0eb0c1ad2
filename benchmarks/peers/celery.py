"""
Celery itself: a task that does nothing, Redis, prefork with two children.

Without results, events and the workers' talk among each other, which nobody here wants. Messages are
pushed as our bare producer pushes them, many in one round trip: Celery's own takes a round trip each.
Acknowledged late, so that an empty broker says that all have run; it costs the same commands.
"""

import warnings
from uuid import uuid4

import redis
from celery import Celery
from celery.exceptions import SecurityWarning
from celery.signals import worker_ready

from benchmarks.harness.messages import envelope
from benchmarks.peers.roles import BROKER_URL, ready, submit_on_request

_QUEUE = "celery"
_QUIETLY = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING")

app = Celery("peer", broker=BROKER_URL)
app.conf.update(task_ignore_result=True, task_acks_late=True, worker_redirect_stdouts=False)


@app.task(name="noop")
def noop(**_: object) -> None:
    """Do nothing, whatever is said."""


async def install() -> None:
    """There is nothing to make."""


def work() -> None:
    """Do nothing, until ended; by two children."""
    warnings.simplefilter("ignore", SecurityWarning)  # it may be root who measures
    worker_ready.connect(lambda **_: ready(), weak=False)
    app.worker_main(["--quiet", "worker", "--concurrency", "2", *_QUIETLY])


async def submit() -> None:
    """Push as many as told."""
    broker = redis.Redis.from_url(BROKER_URL)

    async def push(count: int) -> None:
        broker.lpush(_QUEUE, *(envelope("noop", str(uuid4()), _QUEUE, {}) for _ in range(count)))

    await submit_on_request(push)
