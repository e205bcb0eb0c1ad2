"""A flag that tells the worker's processes and threads that it stops."""

import mmap
import time

_POLL_S = 0.2

_stopping = mmap.mmap(-1, 1)
"""Anonymous shared memory, created at import, so that forked children see what the main process writes."""


def is_stopping() -> bool:
    """True if the worker stops, in its main process, its children and its threads alike."""
    return _stopping[0] != 0


def wait(seconds: float) -> None:
    """Sleep, but return within 0.2 s when the worker stops."""
    until = time.monotonic() + seconds
    while not is_stopping() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _POLL_S))


def stop() -> None:
    """Set the flag; every `wait` of this worker returns."""
    _stopping[0] = 1


def reset() -> None:
    """Clear the flag when a worker starts."""
    _stopping[0] = 0
