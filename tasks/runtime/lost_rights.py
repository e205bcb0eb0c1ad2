"""
The rights that the database denies while the worker runs: named at once, and noted where `crawlyard health` sees it.

A unit that lacks one waits, as for a database that is away, and its message is requeued in the end.
"""

import mmap
import struct
import time

from persistence.exceptions import CrawlyardError, RightsMissing
from persistence.migrations.rights import lacking

_SIZE = mmap.PAGESIZE
_HEAD = struct.Struct("dH")
_VALID_S = 15.0
"""Longer than a waiting unit pauses between two attempts, each of which notes it again."""

_noted = mmap.mmap(-1, _SIZE)
"""Anonymous shared memory: the main process, which updates the liveness file, sees what its children note."""


def describe(error: RightsMissing) -> str:
    """Note and return in one line which rights our role lacks, with the statements that grant them."""
    try:
        reason = lacking() or str(error)  # such as a right on single columns, which is not looked up
    except CrawlyardError:
        reason = str(error)
    text = reason.encode()[: _SIZE - _HEAD.size]
    _noted[_HEAD.size : _HEAD.size + len(text)] = text
    _noted[: _HEAD.size] = _HEAD.pack(time.monotonic(), len(text))
    return reason


def noted() -> str:
    """Return what a unit of this worker has lacked in the last seconds; nothing if none has."""
    at, size = _HEAD.unpack(_noted[: _HEAD.size])
    if not size or time.monotonic() - at > _VALID_S:
        return ""
    return _noted[_HEAD.size : _HEAD.size + size].decode(errors="replace")
