"""
A liveness file for each worker and each beat; its modification time is when the process was last known to be well.

It is a file because a supervisor runs on the same machine, and the database and the broker may be away. Its name ends
with the process's id. The process locks it while it lives: this distinguishes the file of a killed process, which the
next reader removes, from that of a stuck one. This module does not import Celery, so that checking is cheap.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from stat import S_ISDIR
from typing import IO, Any

_PRIVATE = 0o700
_MAX_CLOCK_STEP = timedelta(seconds=5)
"""A time further in the future means that the clock was set back; a healthy process would have updated it."""


@dataclass(frozen=True)
class ProcessLiveness:
    """A living process: how long ago it was known to be well, and how long that may be."""

    pid: int
    age: timedelta
    bound: timedelta
    refused: str = ""
    """Why it cannot work, if the broker answers and refuses; a restart does not help."""

    @property
    def is_well(self) -> bool:
        """True if it was known to be well recently; whether something is refused to it is another matter."""
        return -_MAX_CLOCK_STEP <= self.age <= self.bound


class LivenessFile:
    """The file of this process. Forked children must not use their copy."""

    def __init__(self, kind: str, bound: timedelta) -> None:
        """Create the file. Raises OSError if that is not possible."""
        folder = _own_folder()
        for _ in read(kind):
            pass  # removes the files of dead processes
        hidden = folder / f".{kind}-{os.getpid()}"
        self._path = folder / f"{kind}-{os.getpid()}"
        self._file = hidden.open("w", encoding="ascii")
        self._bound = str(bound.total_seconds())
        self._refused = ""
        self._file.write(self._bound)
        self._file.flush()
        # Not flock: a child inherits it, and would keep the lock of a dead parent.
        fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(self._path)  # so that no reader sees it unlocked

    def beat(self, well_at: float | None = None) -> None:
        """Record that all was well at this time of the epoch; by default now."""
        os.utime(self._file.fileno(), None if well_at is None else (well_at, well_at))

    def refuse(self, reason: str) -> None:
        """Record, until `permit`, why the process cannot work."""
        if reason != self._refused:
            self._refused = reason
            line = " ".join(reason.split())
            text = (f"{self._bound}\n{line}" if line else self._bound).encode("ascii", "replace")
            os.pwrite(self._file.fileno(), text, 0)  # a reader may be at it: the bound is always there
            os.ftruncate(self._file.fileno(), len(text))

    def permit(self) -> None:
        """Record that nothing is refused any more."""
        if self._refused:
            self.refuse("")

    def close(self) -> None:
        """Remove the file; it cannot be used again."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def read(kind: str) -> Iterator[ProcessLiveness]:
    """
    Every living process of this kind that runs as this user and with this temporary folder.

    A process with a LivenessFile of this kind must not call it: closing the file here would unlock its own.
    Raises OSError if another user owns the folder.
    """
    for path in sorted(_own_folder().glob(f"{kind}-*")):
        with suppress(FileNotFoundError), path.open("r+", encoding="ascii") as file:
            if _is_locked(file):
                age = time.time() - os.fstat(file.fileno()).st_mtime
                bound, _, refused = file.read().partition("\n")
                pid = int(path.name.rpartition("-")[2])
                yield ProcessLiveness(pid, timedelta(seconds=age), timedelta(seconds=float(bound)), refused)
            else:
                path.unlink(missing_ok=True)


def _is_locked(file: IO[Any]) -> bool:
    try:
        fcntl.lockf(
            file, fcntl.LOCK_SH | fcntl.LOCK_NB
        )  # shared: two readers of a dead process's file must not take each other for it
    except BlockingIOError:
        return True
    return False


def _own_folder() -> Path:
    """A folder that only this user can write to, even if another user created the name first."""
    folder = Path(tempfile.gettempdir()) / f"crawlyard-{os.geteuid()}"
    folder.mkdir(mode=_PRIVATE, exist_ok=True)
    status = folder.lstat()
    if not S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder} is not a private folder of this user")
    return folder
