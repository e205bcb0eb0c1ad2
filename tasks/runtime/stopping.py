"""Whether this worker was told to stop: a flag that its process, its children and its threads share."""

import mmap
import time

_POLL_S = 0.2

_stopping = mmap.mmap(-1, 1)
"""Anonymous shared memory, made at import: forked children see what the worker's own process writes."""


def is_stopping() -> bool:
    """Whether this worker was told to stop; the same answer in its process, its children and its threads."""
    return _stopping[0] != 0


def wait(seconds: float) -> None:
    """Sleep, and wake within 0.2 s when the worker is told to stop."""
    until = time.monotonic() + seconds
    while not is_stopping() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _POLL_S))


def stop() -> None:
    """Tell all who wait that the worker stops."""
    _stopping[0] = 1


def reset() -> None:
    """Begin anew, as a worker that was not told to stop."""
    _stopping[0] = 0
