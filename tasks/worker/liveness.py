"""
Updates the liveness files of workers and beat.

A worker is well when Redis answers its consumer's BRPOP: the event loop runs, the connection is alive, and the
consumer asks for messages, which an idle one does every second. Answers to `inspect ping` prove none of this, because
they use another connection. While all slots are used the consumer does not ask, so it may be silent for as long as
its longest task may take. A message that a worker has had for longer than that is a fault too, even if the consumer
still asks: a child is stuck.
"""

import atexit
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from celery import Celery, signals
from celery.worker.state import reserved_requests

from tasks.runtime import lost_rights
from tasks.start.temporary_folder import why_no_temporary_folder
from tasks.worker.heartbeat_file import LivenessFile

log = structlog.get_logger()

WORKER, BEAT = "worker", "beat"

WORKER_MARGIN = timedelta(seconds=30)
"""Allows for a broker that restarts, a child that is replaced, and a slow machine."""

_BEATS_MISSED = 6
_MIN_BOUND = timedelta(seconds=60)


class _Worker:
    """The liveness file of this process, if it is a worker or beat, and since when it has had its messages."""

    def __init__(self) -> None:
        self.file: LivenessFile | None = None
        self.beat: LivenessFile | None = None
        self.in_hand: WeakKeyDictionary[Any, float] = WeakKeyDictionary()


_worker = _Worker()


def install() -> None:
    """Give each worker of this process a liveness file."""
    signals.worker_init.connect(_begin)
    signals.worker_shutdown.connect(_end)


def on_broker_answer() -> None:
    """
    Update the file: Redis has answered the consumer.

    Never raises, because the answer may be a message that exists nowhere else. The next answer makes up for a failed
    update.
    """
    if not _worker.file:
        return
    # Such as: the file was removed or closed, or a pool's thread has just ended a request.
    with suppress(Exception):
        _worker.file.refuse(lost_rights.noted())
        now = time.time()
        _worker.file.beat(min((_worker.in_hand.setdefault(r, now) for r in reserved_requests), default=now))


def refused(reason: str) -> None:
    """Note that the broker refuses what this worker or beat needs, until it serves it again."""
    if file := _worker.file or _worker.beat:
        with suppress(OSError, ValueError):
            file.refuse(reason)


def begin_beat(app: Celery) -> None:
    """Give beat a liveness file, updated when Redis has accepted one of its messages."""
    shortest = min(entry["schedule"] for entry in app.conf.beat_schedule.values())
    if file := _open_liveness_file(BEAT, max(_BEATS_MISSED * shortest, _MIN_BOUND)):
        _worker.beat = file
        signals.after_task_publish.connect(lambda **_: _served(file), weak=False)
        atexit.register(file.close)


def _served(file: LivenessFile) -> None:
    file.permit()
    file.beat()


def longest_task(app: Celery, queues: Any) -> timedelta:
    """The longest time limit of the tasks of these queues."""
    limits = (
        task.time_limit or app.conf.task_time_limit
        for name, task in app.tasks.items()
        if app.amqp.router.route({}, name)["queue"].name in queues
    )
    return timedelta(seconds=max(limits, default=app.conf.task_time_limit))


def _begin(sender: Any, **_: Any) -> None:
    bound = longest_task(sender.app, sender.app.amqp.queues.consume_from) + WORKER_MARGIN
    _worker.file = _open_liveness_file(WORKER, bound)


def _end(**_: Any) -> None:
    if _worker.file:
        _worker.file.close()
        _worker.file = None


def _open_liveness_file(kind: str, bound: timedelta) -> LivenessFile | None:
    """Returns None if no file can be created: the work continues, and the supervisor reports the process."""
    try:
        return LivenessFile(kind, bound)
    except OSError as error:
        log.warning("no_pulse", error=why_no_temporary_folder() or str(error))
        return None
