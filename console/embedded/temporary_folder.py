"""A temporary folder with processes in it, all of which are removed when this process ends; supervisor.py does it."""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import getpid
from pathlib import Path
from typing import Any

from persistence.exceptions import CrawlyardError

_SUPERVISOR_SCRIPT = Path(__file__).with_name("supervisor.py")
_END_SECONDS = 60.0
_LOG_LINES = 15


class SandboxError(CrawlyardError):
    """The supervisor could not do what was requested; the text says why."""


class ServerSandbox:
    """A folder and the programs that the supervisor runs in it; usable from several threads."""

    def __init__(self, supervisor: "subprocess.Popen[str]") -> None:
        self._supervisor = supervisor
        self._lock = threading.Lock()
        self._last_id = 0
        self._log_starts: dict[str, int] = {}
        self.folder = Path(_unless_error(self._answer())["folder"])

    def launch(self, name: str, argv: list[str], quit_signal: int) -> int:
        """Start a program in the folder, append its output to NAME.log, and return its pid."""
        log = self._log(name)
        self._log_starts[name] = log.stat().st_size if log.exists() else 0
        pid: int = self._ask(do="start", name=name, argv=argv, quit=quit_signal)["pid"]
        return pid

    def code(self, name: str) -> int | None:
        """Return a program's exit code (negative: the signal that ended it), or None while it runs."""
        code: int | None = self._ask(do="poll", name=name)["code"]
        return code

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a program; no effect if it has ended."""
        self._ask(do="signal", name=name, signal=number)

    def run(self, name: str, argv: list[str], quit_signal: int) -> None:
        """Run a program to its end. Raises SandboxError with its last lines if it fails."""
        self.launch(name, argv, quit_signal)
        while (code := self.code(name)) is None:
            time.sleep(0.01)
        if code != 0:
            raise SandboxError(f"{name} ended with {code}:\n{self.log_tail(name)}")

    def log_tail(self, name: str) -> str:
        """Return the last lines that a program has printed since its last start."""
        with self._log(name).open("rb") as log:
            log.seek(self._log_starts[name])
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-_LOG_LINES:])

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _ask(self, **request: object) -> dict[str, Any]:
        with self._lock:
            self._last_id += 1
            self._send({"id": self._last_id, **request})
            # Ctrl-C between a request and its answer leaves that answer in the pipe: skip it.
            while (answer := self._answer()).get("id") != self._last_id:
                pass
        return _unless_error(answer)

    def _send(self, request: dict[str, Any]) -> None:
        assert self._supervisor.stdin is not None
        try:
            self._supervisor.stdin.write(json.dumps(request) + "\n")
            self._supervisor.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise SandboxError("the embedded servers have ended, since their supervisor has ended") from None

    def _answer(self) -> dict[str, Any]:
        assert self._supervisor.stdout is not None
        line = self._supervisor.stdout.readline()
        if not line:
            raise SandboxError("the supervisor of the embedded servers has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _unless_error(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise SandboxError(str(answer["error"]))
    return answer


@contextmanager
def temporary_sandbox() -> Iterator[ServerSandbox]:
    """Provide a sandbox; at the end its processes are stopped and its folder is removed."""
    tempfile.gettempdir()  # raises FileNotFoundError here, where it is reported
    supervisor = subprocess.Popen(  # noqa: S603 - our own script, by our own interpreter
        [sys.executable, "-I", "-S", str(_SUPERVISOR_SCRIPT), str(getpid())],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C at the terminal goes to this process, not to the supervisor
    )
    try:
        yield ServerSandbox(supervisor)
    finally:
        _close(supervisor)


def _close(supervisor: "subprocess.Popen[str]") -> None:
    """Let the supervisor clean up, and wait for it."""
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    supervisor.stdin.close()
    supervisor.wait(_END_SECONDS)
    supervisor.stdout.close()
