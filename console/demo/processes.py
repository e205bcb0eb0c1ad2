"""Runs `crawlyard` commands as child processes: restarted when they crash, ended when this process ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

_WRAPPER = Path(__file__).with_name("tied_process.py")
_ROOT = Path(__file__).parents[2]
_PATIENCE_SECONDS = 15.0
"""Time for a worker to finish its running tasks."""
_MARGIN_SECONDS = 5.0
_FIRST_BACKOFF_SECONDS = 0.5
_LAST_BACKOFF_SECONDS = 10.0
_LOG_LINES = 15


class Child:
    """One `crawlyard` command that runs until this process ends; its output goes to NAME.log."""

    def __init__(self, name: str, arguments: list[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.restarts = 0
        """How often it was started again, without those that follow `kill`."""
        self._arguments = arguments
        self._environment = dict(os.environ) | _import_path() | dict(environment)
        self._log = folder / f"{name}.log"
        self._backoff = _FIRST_BACKOFF_SECONDS
        self._start_at: float | None = None
        self._was_killed = False
        self._process = self._start()

    @property
    def is_running(self) -> bool:
        """True if the process runs."""
        return self._process.poll() is None

    def restart_crashed(self) -> None:
        """Restart the process if it has crashed, with a longer delay each time."""
        if self.is_running:
            return
        now = time.monotonic()
        if self._start_at is None:
            self._start_at = now + self._backoff
            self._backoff = min(2 * self._backoff, _LAST_BACKOFF_SECONDS)
        elif now >= self._start_at:
            self._start_at = None
            self.restarts += not self._was_killed
            self._was_killed = False
            self.request_stop()  # the pipe of the one that has ended
            self._process = self._start()

    def kill(self) -> None:
        """Kill the program with SIGKILL, as a crash would; `restart_crashed` starts it again."""
        self._was_killed = True
        self._process.send_signal(signal.SIGUSR1)

    def request_stop(self) -> None:
        """Close the wrapper's input: it sends SIGTERM now, and SIGKILL to what is left after a while."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self) -> None:
        """Return when the process has ended; kill it if it takes too long."""
        try:
            self._process.wait(_PATIENCE_SECONDS + _MARGIN_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log_tail(self) -> str:
        """Return the path of the log and its last lines."""
        lines = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join([f"{self._log}:", *lines])

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-P", "-m", "console.main", *self._arguments]
        with self._log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own command, by our own interpreter
                [sys.executable, "-I", "-S", str(_WRAPPER), str(_PATIENCE_SECONDS), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # Ctrl-C at the terminal goes to this process only
            )


class Supervisor:
    """Child processes that end together."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.request_stop()
        for child in self._children:
            child.wait()

    def start(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Child:
        """Start `crawlyard ARGUMENTS`, with these variables of its own."""
        child = Child(name, list(arguments), {**self._environment, **(environment or {})}, self._folder)
        self._children.append(child)
        return child

    def restart_crashed(self) -> None:
        """Restart the children that have crashed; call this regularly."""
        for child in self._children:
            child.restart_crashed()

    @property
    def restarts(self) -> int:
        """The number of restarts of all children."""
        return sum(child.restarts for child in self._children)

    def log_tails(self) -> str:
        """Return the last log lines of the children that were restarted."""
        return "\n".join(child.log_tail() for child in self._children if child.restarts)


def _import_path() -> dict[str, str]:
    """Make a child import this code, and not a package of the same name in the current directory."""
    paths = (str(_ROOT), os.environ.get("PYTHONPATH"))
    return {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
