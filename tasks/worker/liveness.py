"""
When a worker and beat are well: what their pulse beats with.

A worker is well when Redis has answered its consumer's own BRPOP: the event loop turns, the connection is
alive, and the consumer has asked for more, which it does once a second where nothing comes. Answers to
`inspect ping` prove none of this: they come by another connection. While every slot is taken it does not
ask; so a silence is no fault before the longest of its tasks must have ended. And a message in hand for
longer than that is one too, though the worker still asks: a child is stuck.
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

from tasks.worker.heartbeat_file import LivenessFile

log = structlog.get_logger()

WORKER, BEAT = "worker", "beat"

WORKER_MARGIN = timedelta(seconds=30)
"""For a broker that comes back, a child that is replaced, a machine that is slow."""

_BEATS_MISSED = 6
_MIN_BOUND = timedelta(seconds=60)


class _Worker:
    """Its pulse, in a process that is a worker's, and since when it has had its messages in hand."""

    def __init__(self) -> None:
        self.file: LivenessFile | None = None
        self.in_hand: WeakKeyDictionary[Any, float] = WeakKeyDictionary()


_worker = _Worker()


def install() -> None:
    """Give every worker of this process a pulse."""
    signals.worker_init.connect(_begin)
    signals.worker_shutdown.connect(_end)


def on_broker_answer() -> None:
    """
    Redis has answered the consumer.

    Never raises: the answer may be a message, which is nowhere else. A beat that is missed is the next one.
    """
    if not _worker.file:
        return
    with suppress(OSError, RuntimeError):  # no such file any more; a pool's thread has just ended a request
        now = time.time()
        _worker.file.beat(min((_worker.in_hand.setdefault(r, now) for r in reserved_requests), default=now))


def begin_beat(app: Celery) -> None:
    """Give beat a pulse, which beats when Redis has taken one of its messages."""
    shortest = min(entry["schedule"] for entry in app.conf.beat_schedule.values())
    if file := _open_liveness_file(BEAT, max(_BEATS_MISSED * shortest, _MIN_BOUND)):
        signals.after_task_publish.connect(lambda **_: file.beat(), weak=False)
        atexit.register(file.close)


def longest_task(app: Celery, queues: Any) -> timedelta:
    """How long a task of these queues may take before it is killed."""
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
    """None where no file can be made: its supervisor will say so, and the work goes on."""
    try:
        return LivenessFile(kind, bound)
    except OSError as error:
        log.warning("no_pulse", error=str(error))
        return None
