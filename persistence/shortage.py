"""What a machine or a process lacks for a moment: descriptors, memory, buffers. Waiting cures it."""

import errno
from typing import TypeGuard

_ERRNOS = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def is_shortage(error: BaseException) -> TypeGuard[OSError]:
    """
    True if the operating system had too little of something when this was raised.

    A MemoryError is none: it may be the fault of the message itself.
    """
    return isinstance(error, OSError) and error.errno in _ERRNOS
