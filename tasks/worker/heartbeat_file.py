"""
Signs of life: a file for each worker and each beat, whose time says when it was last known to be well.

A file, since whoever supervises a process is on its machine, and since database and broker may be away.
Its name ends with the process's id. It is locked as long as that process lives: what a killed one leaves
behind is told from what a stuck one holds, and removed by the next who looks. Nothing of Celery here, so
that a look costs little.
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
"""A time so far to come says that the clock was set back; a living process would have set it anew."""


@dataclass(frozen=True)
class ProcessLiveness:
    """A living process, when it was last known to be well, and how long it may be unknown."""

    pid: int
    age: timedelta
    bound: timedelta

    @property
    def is_well(self) -> bool:
        """Whether it was well lately."""
        return -_MAX_CLOCK_STEP <= self.age <= self.bound


class LivenessFile:
    """One's own. Only who made it beats: a forked child has a copy that it leaves alone."""

    def __init__(self, kind: str, bound: timedelta) -> None:
        """Begin to be well. Raises OSError where no file can be made."""
        folder = _own_folder()
        for _ in read(kind):
            pass  # the dead are removed
        hidden = folder / f".{kind}-{os.getpid()}"
        self._path = folder / f"{kind}-{os.getpid()}"
        self._file = hidden.open("w", encoding="ascii")
        self._file.write(str(bound.total_seconds()))
        self._file.flush()
        # Not flock: a child inherits that, and would hold it for a parent that is dead.
        fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(self._path)  # nobody has seen it unlocked

    def beat(self, well_at: float | None = None) -> None:
        """Say that all was well at this time of the epoch; by default now."""
        os.utime(self._file.fileno(), None if well_at is None else (well_at, well_at))

    def close(self) -> None:
        """Take the file away; for good."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def read(kind: str) -> Iterator[ProcessLiveness]:
    """
    Every living process of this kind that runs as this user and with this temporary folder.

    Not to be called by one that has a Pulse of the kind: closing its file here would unlock it.
    Raises OSError where somebody else owns the folder.
    """
    for path in sorted(_own_folder().glob(f"{kind}-*")):
        with suppress(FileNotFoundError), path.open("r+", encoding="ascii") as file:
            if _is_locked(file):
                age = time.time() - os.fstat(file.fileno()).st_mtime
                bound = timedelta(seconds=float(file.read()))
                yield ProcessLiveness(int(path.name.rpartition("-")[2]), timedelta(seconds=age), bound)
            else:
                path.unlink(missing_ok=True)


def _is_locked(file: IO[Any]) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: another look at a dead one's is no life
    except BlockingIOError:
        return True
    return False


def _own_folder() -> Path:
    """A folder that nobody but this user can write to, whoever was first with its name."""
    folder = Path(tempfile.gettempdir()) / f"crawlyard-{os.geteuid()}"
    folder.mkdir(mode=_PRIVATE, exist_ok=True)
    status = folder.lstat()
    if not S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder} is not a private folder of this user")
    return folder
