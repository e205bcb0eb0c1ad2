"""
Crawlyard's programs as separate processes, forked from a parent that has already imported what they need.

Imports take most of a worker's start, and the tests start some two hundred. The parent is multiprocessing's fork
server. It has a single thread, and has read no settings: our modules do not read them when they are imported.
"""

import ctypes
import gc
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

_IMPORTED = (
    *("celery.bin.celery", "celery.apps.worker", "celery.worker.consumer", "celery.concurrency.prefork"),
    *("celery.fixups.django", "kombu.transport.redis", "redis", "httpx", "alembic.context"),
    *("sqlalchemy.dialects.postgresql.psycopg", "persistence.unit_of_work", "persistence.migrations.run"),
    *("tasks.contract.payloads", "console.commands.worker"),
)
"""
What the processes share. Not `tasks.runtime`: it makes the memory in which the processes of one worker tell each other
that it stops.
"""

_PATIENCE_S = 60.0
"""How long a stopping worker may take to finish its tasks."""

_fork_server = multiprocessing.get_context("forkserver")
_fork_server.set_forkserver_preload([*_IMPORTED])


def choose_socket_folder() -> None:
    """
    Make the folder of the fork server's socket, before any test changes the temporary folder.

    That of a test has too long a path for a socket, and is deleted with the test. To be called by the tests only: a
    forked program imports this module before it has its environment, and has to find its own temporary folder.
    """
    util.get_temp_dir()


class Forked:
    """A process that runs `python -m MODULE ARGUMENT…` in the project's folder, with its output in a file."""

    def __init__(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.log = log
        self._process = _fork_server.Process(
            target=_run, args=(module, [*arguments], {**environment}, str(log)), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid
        return self._process.pid

    def lives(self) -> bool:
        """Return True while the process runs, also while it is stopped by SIGSTOP."""
        return self._process.is_alive()

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal, unless it has ended."""
        if self.lives():
            os.kill(self.pid, number)

    def wait(self, seconds: float | None = None) -> int:
        """Wait for its end, and return the exit code: negative for a signal. Raises TimeoutExpired."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self._process), seconds or 0.0)
        return self._process.exitcode

    def request_stop(self) -> None:
        """Send it SIGTERM."""
        self.send(signal.SIGTERM)

    def close(self) -> None:
        """Stop it by SIGTERM, or by SIGKILL if that takes too long."""
        self.request_stop()
        try:
            self.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self.wait()


def _run(module: str, arguments: list[str], environment: dict[str, str], log: str) -> None:
    """Become the program."""
    gc.freeze()  # a collection would write to, and so copy, each page that is shared with the parent
    _end_with_parent()
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        stream.flush()
        os.dup2(output, number)
    os.close(output)
    sys.stdout = sys.__stdout__ = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - for good
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    multiprocessing.current_process().name = "MainProcess"
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    """
    End when the tests end, even if they are killed (on Linux).

    The fork server exits when no process holds the write end of its pipe. Every child inherits that end, so it is
    closed here.
    """
    os.close(forkserver._forkserver._forkserver_alive_fd)
    if sys.platform == "linux":
        set_parents_death_signal = 1
        ctypes.CDLL(None).prctl(set_parents_death_signal, signal.SIGTERM)
