"""
The smallest app with our consumer, request, transport and lifecycle, and tasks that misbehave on request.

Rejected messages go to the Redis list `kept` instead of the database, and the arguments of tasks to `seen`. While the
key `no_database` exists, rejecting fails.
"""

import json
import os
import resource
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from celery.concurrency.asynpool import AsynPool
from celery.exceptions import Reject

from persistence.exceptions import DatabaseLost
from tasks.runtime import rejection, stopping
from tasks.runtime import task as tasks
from tasks.runtime.task import MessageTask
from tasks.worker import consumer, envelope, lifecycle, liveness, serialization, transport

notes = redis.Redis.from_url(os.environ.get("NOTES_URL", os.environ["BROKER_URL"]))


def keep(**rejected: Any) -> None:
    """Store a rejected message in Redis instead of the database."""
    if notes.exists("no_database"):
        notes.incr("refused")
        raise DatabaseLost
    notes.rpush("kept", json.dumps(rejected, default=repr))


rejection.keep = keep  # type: ignore[assignment]
tasks._REQUEUE_PAUSE_S = 0.1


def die_of(text: object) -> None:
    """Kill this process if the text says so."""
    if b"kills its reader" in bytes(text):
        notes.incr("reader_deaths")
        os.kill(os.getpid(), signal.SIGKILL)


def admit_or_die(message: Any, *args: Any, _admit: Any = consumer.admit) -> None:
    """Die of a message once it is admitted."""
    _admit(message, *args)
    die_of(message.body)


def read_or_die(raw: bytes, _read: Any = envelope.read) -> Any:
    """Die of a message's text before it is read."""
    die_of(raw)
    return _read(raw)


consumer.admit = admit_or_die
if not os.environ.get("OWN_QUEUES_ONLY"):
    consumer.is_served_by = lambda *_: True  # most tests use a queue for its worker, not for its tasks
envelope.read = read_or_die
if memory := os.environ.get("MEMORY_MIB"):
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    limit = pages * resource.getpagesize() + int(memory) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

app = Celery("worker_app")
app.config_from_object("celeryconfig")
serialization.register()
transport.register()
lifecycle.install(app)
liveness.install()
app.conf.worker_soft_shutdown_timeout = 0.5
app.conf.broker_transport_options |= json.loads(os.environ.get("BROKER_OPTIONS", "{}"))
if time_limit := os.environ.get("TIME_LIMIT"):
    app.conf.task_time_limit = float(time_limit)
    liveness.WORKER_MARGIN = timedelta(seconds=2)
# Billiard sometimes misses the death of a child, and by default looks again after five seconds.
AsynPool.timers = property(lambda pool: {pool.maintain_pool: 0.1})


class Task(MessageTask):
    """The parts of UnitTask that matter to the worker."""

    max_retries = 2
    abstract = True


@app.task(name="crawler.frames", base=Task, bind=True)
def note(self: Any, **kwargs: Any) -> None:
    """Note its arguments, after so many seconds."""
    notes.rpush("order", "note")
    stopping.wait(kwargs.get("seconds", 0))
    notes.rpush("seen", json.dumps({"id": self.request.id, "kwargs": kwargs, "pid": os.getpid()}))


@app.task(name="connections.expire_dead", base=Task)
def sweep() -> None:
    """Count."""
    notes.incr("sweeps")


@app.task(name="jobs.assign", base=Task)
def die(**_: Any) -> None:
    """Kill its own process."""
    notes.incr("deaths")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="jobs.retry", base=Task, time_limit=1)
def hang() -> None:
    """Exceed its time limit."""
    notes.incr("hangs")
    signal.pause()


@app.task(name="jobs.cancel", base=Task)
def exhaust() -> None:
    """Run out of memory."""
    notes.incr("exhaustions")
    raise MemoryError


@app.task(name="jobs.pause", base=Task)
def wait_in_vain() -> None:
    """Wait as for a lost database, then requeue."""
    patience = float(notes.get("patience") or 0)
    notes.rpush("order", "wait")
    notes.incr("waits")  # the last request to the server: a test may stop it as soon as it sees this
    stopping.wait(patience)
    raise Reject(requeue=True)
