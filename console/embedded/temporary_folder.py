"""A temporary folder whose processes and files end with us, however we end; the near side of the keeper."""

import json
import subprocess
import sys
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
    """The keeper could not do what was asked; the text says why."""


class ServerSandbox:
    """A folder and what runs in it, asked of the keeper; usable from several threads."""

    def __init__(self, supervisor: "subprocess.Popen[str]") -> None:
        self._supervisor = supervisor
        self._lock = threading.Lock()
        self._last_id = 0
        self._log_starts: dict[str, int] = {}
        self.folder = Path(_unless_error(self._answer())["folder"])

    def launch(self, name: str, argv: list[str], quit_signal: int) -> int:
        """Start a program in the folder, its output appended to NAME.log; returns its pid."""
        log = self._log(name)
        self._log_starts[name] = log.stat().st_size if log.exists() else 0
        pid: int = self._ask(do="start", name=name, argv=argv, quit=quit_signal)["pid"]
        return pid

    def code(self, name: str) -> int | None:
        """How a program ended (negative: by that signal); None while it runs."""
        code: int | None = self._ask(do="poll", name=name)["code"]
        return code

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a program; without effect if it has ended."""
        self._ask(do="signal", name=name, signal=number)

    def run(self, name: str, argv: list[str], quit_signal: int) -> None:
        """Run a program to its end. Raises NestError with its last lines unless it ends well."""
        self.launch(name, argv, quit_signal)
        while (code := self.code(name)) is None:
            time.sleep(0.01)
        if code != 0:
            raise SandboxError(f"{name} ended with {code}:\n{self.log_tail(name)}")

    def log_tail(self, name: str) -> str:
        """The last lines that a program printed since it was started last."""
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
            # Ctrl-C between question and answer leaves an answer behind: not ours, skip it.
            while (answer := self._answer()).get("id") != self._last_id:
                pass
        return _unless_error(answer)

    def _send(self, request: dict[str, Any]) -> None:
        assert self._supervisor.stdin is not None
        try:
            self._supervisor.stdin.write(json.dumps(request) + "\n")
            self._supervisor.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise SandboxError("the embedded servers have ended: their keeper is gone") from None

    def _answer(self) -> dict[str, Any]:
        assert self._supervisor.stdout is not None
        line = self._supervisor.stdout.readline()
        if not line:
            raise SandboxError("the keeper of the embedded servers has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _unless_error(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise SandboxError(str(answer["error"]))
    return answer


@contextmanager
def temporary_sandbox() -> Iterator[ServerSandbox]:
    """Give a nest; at the end its processes are gone and its folder is removed."""
    supervisor = subprocess.Popen(  # noqa: S603 - our own script, by our own interpreter
        [sys.executable, "-I", "-S", str(_SUPERVISOR_SCRIPT), str(getpid())],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C at the terminal is ours to hear, not the keeper's
    )
    try:
        yield ServerSandbox(supervisor)
    finally:
        _close(supervisor)


def _close(supervisor: "subprocess.Popen[str]") -> None:
    """Let the keeper clean up, and wait for it."""
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    supervisor.stdin.close()
    supervisor.wait(_END_SECONDS)
    supervisor.stdout.close()
