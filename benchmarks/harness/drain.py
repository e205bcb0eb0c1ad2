"""Measures how fast workers handle messages that are all queued at the start: from the push to empty queues."""

import time
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from benchmarks.harness.bed import Bed, wait_until
from benchmarks.harness.messages import envelope
from tasks.routes import queue_of

_LOOK_S = 0.01

_AGAIN_S = 0.02
"""A message on its way from the list to a worker is counted nowhere, so the queues must be seen empty twice."""


def seconds_to_handle(there: Bed, task: str, payloads: Iterable[dict[str, Any]]) -> float:
    """
    Push all messages in one command, and return the seconds until none is queued or being handled.

    That includes the messages that the tasks publish. The texts are prepared before the timing starts.
    """
    queue = queue_of(task)
    texts = [envelope(task, str(uuid4()), queue, payload) for payload in payloads]
    there.broker.lpush(queue, *texts)
    begun = time.perf_counter()
    return emptied_at(there.publisher.waiting) - begun


def emptied_at(waiting: Callable[[], int]) -> float:
    """Return the time by `perf_counter` at which no message was left. Raises TimeoutError."""
    while True:
        wait_until(lambda: not waiting(), "the queues are empty", pause=_LOOK_S)
        at = time.perf_counter()
        time.sleep(_AGAIN_S)
        if not waiting():
            return at
