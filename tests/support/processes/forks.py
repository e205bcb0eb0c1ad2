"""
Our programs as processes of their own, forked from one that has imported the libraries for all of them.

A worker spends most of its start on imports, and the tests start some hundred. The parent of them all is
multiprocessing's fork server: it has one thread, and nothing of ours in it, so that each process reads its
settings and its modules anew.
"""

import ctypes
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path

from billiard import pool

ROOT = Path(__file__).resolve().parents[3]

_LIBRARIES = (
    *("celery.bin.celery", "celery.apps.worker", "celery.worker.consumer", "celery.concurrency.prefork"),
    *("celery.fixups.django", "kombu.transport.redis", "redis", "httpx", "pydantic_settings", "structlog"),
    *("psycopg", "sqlalchemy.orm", "sqlalchemy.dialects.postgresql.psycopg", "click", "ulid"),
)

_PATIENCE_S = 60.0
"""What a worker gets to finish what it has begun."""

_fork_server = multiprocessing.get_context("forkserver")
_fork_server.set_forkserver_preload([*_LIBRARIES])


class Forked:
    """One that runs `python -m MODULE ARGUMENT…` in the project's folder; what it writes goes to a file."""

    def __init__(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
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
        """Whether it runs; one that is stopped does."""
        return self._process.is_alive()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.lives():
            os.kill(self.pid, number)

    def wait(self, seconds: float | None = None) -> int:
        """Wait for its end; its exit code, negative for a signal. Raises TimeoutExpired."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self._process), seconds or 0.0)
        return self._process.exitcode

    def ask_to_end(self) -> None:
        """Send it SIGTERM."""
        self.send(signal.SIGTERM)

    def close(self) -> None:
        """End it in a friendly way, else by force."""
        self.ask_to_end()
        try:
            self.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self.wait()


def _run(module: str, arguments: list[str], environment: dict[str, str], log: str) -> None:
    """Become the program."""
    _end_with_parent()
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        stream.flush()
        os.dup2(output, number)
    os.close(output)
    sys.stdout = sys.__stdout__ = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - for good
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    multiprocessing.current_process().name = "MainProcess"
    # A child whose last result the stopping worker has not read waits before it ends: by default for 30 s.
    pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 20
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    """
    Let nothing outlive the tests, even if they are killed: not the fork server, and on Linux not this process.

    The fork server ends once nobody holds the other end of its pipe. Each of its children inherits that end.
    """
    os.close(forkserver._forkserver._forkserver_alive_fd)
    if sys.platform == "linux":
        set_parents_death_signal = 1
        ctypes.CDLL(None).prctl(set_parents_death_signal, signal.SIGTERM)
