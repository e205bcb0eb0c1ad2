"""How fast workers handle messages that all wait already: from the push to empty queues."""

import time
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from benchmarks.harness.bed import Bed, wait_until
from benchmarks.harness.messages import envelope, queue_of

_LOOK_S = 0.01

_AGAIN_S = 0.02
"""A message on its way from the list into a worker's hands is in neither: emptiness is seen twice."""


def seconds_to_handle(there: Bed, task: str, payloads: Iterable[dict[str, Any]]) -> float:
    """
    From the push of all messages, in one command, until none waits or is being handled.

    So are the messages that these ring for. The texts are made before.
    """
    queue = queue_of(task)
    texts = [envelope(task, str(uuid4()), queue, payload) for payload in payloads]
    there.broker.lpush(queue, *texts)
    begun = time.perf_counter()
    return emptied_at(there.publisher.waiting) - begun


def emptied_at(waiting: Callable[[], int]) -> float:
    """The moment, on the clock of `perf_counter`, at which nothing waited any more. Raises TimeoutError."""
    while True:
        wait_until(lambda: not waiting(), "the queues are empty", pause=_LOOK_S)
        at = time.perf_counter()
        time.sleep(_AGAIN_S)
        if not waiting():
            return at
