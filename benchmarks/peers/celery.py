"""
Celery itself: a task that does nothing, Redis, and prefork with two pool processes.

Results, events, gossip and mingle are off, since nothing here uses them. Messages are pushed as the benchmark's own
producer pushes them, many in one round trip; Celery's producer takes a round trip per message. They are acknowledged
late, so that an empty broker means that all tasks have run; this costs the same commands.
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
    """Do nothing, with any arguments."""


async def install() -> None:
    """Do nothing: Celery has no tables."""


def work() -> None:
    """Run no-op tasks in two pool processes until stopped."""
    warnings.simplefilter("ignore", SecurityWarning)  # the benchmark may run as root
    worker_ready.connect(lambda **_: ready(), weak=False)
    app.worker_main(["--quiet", "worker", "--concurrency", "2", *_QUIETLY])


async def submit() -> None:
    """Push no-op tasks on request."""
    broker = redis.Redis.from_url(BROKER_URL)

    async def push(count: int) -> None:
        broker.lpush(_QUEUE, *(envelope("noop", str(uuid4()), _QUEUE, {}) for _ in range(count)))

    await submit_on_request(push)
