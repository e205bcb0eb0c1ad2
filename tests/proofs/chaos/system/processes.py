"""Programs that can be killed, frozen and started again, and that end with this process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from console.demo import tied_process

ROOT = Path(__file__).resolve().parents[4]
_WRAPPER = Path(tied_process.__file__)
_PATIENCE_S = 10.0
"""How long a program may take to stop after SIGTERM."""
_BEGINNING_S = 1.0
_KILL_AGAIN_S = 0.5
_BEGUN = b" ready."


class Process:
    """One program that should run until the end; its output goes to NAME.log."""

    def __init__(
        self, name: str, module: str, arguments: list[str], environment: Mapping[str, str], folder: Path
    ) -> None:
        self.name = name
        self.is_wanted = True
        """False while it was ended on purpose."""
        self.crashes = 0
        self._command = [sys.executable, "-P", "-m", module, *arguments]
        own = {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(folder),  # where it leaves files that a killed process cannot delete
        }
        self._environment = os.environ | own | dict(environment)
        self._log = folder / f"{name}.log"
        self._is_frozen = False
        self._wrapper = self._start()

    @property
    def is_running(self) -> bool:
        """True while the process exists, also if it is frozen."""
        return self._wrapper.poll() is None

    def start(self) -> None:
        """Start it again."""
        self.end()
        self._wrapper = self._start()
        self.is_wanted = True

    def kill(self) -> None:
        """Kill it and all of its children with SIGKILL."""
        self.is_wanted = False
        while self.is_running:  # one that has just been started may have no process group of its own yet
            self._signal_all(signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._wrapper.wait(_KILL_AGAIN_S)

    def kill_child(self, draw: float) -> bool:
        """
        Kill one of the pool's processes once the worker is ready; return True if it is, and there was one.

        A worker that loses a child earlier ends, because Celery takes it as a failed start.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while not self._has_begun() and time.monotonic() < deadline:
            time.sleep(0.05)
        if not self._has_begun():
            return False
        time.sleep(_BEGINNING_S)
        program = self._program()
        children = program.children() if program else []
        if children:
            with suppress(psutil.NoSuchProcess):
                children[int(draw * len(children))].kill()
        return bool(children)

    def ask_to_stop(self) -> None:
        """Send SIGTERM to it alone."""
        self.is_wanted = False
        if program := self._program():
            with suppress(psutil.NoSuchProcess):
                program.terminate()

    def freeze(self) -> None:
        """Stop it and its children with SIGSTOP."""
        self._is_frozen = True
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue it and its children."""
        self._is_frozen = False
        self._signal_all(signal.SIGCONT)

    def end(self) -> None:
        """End it, with SIGKILL if it does not stop in time."""
        if self._is_frozen:
            self.resume()
        assert self._wrapper.stdin is not None
        self._wrapper.stdin.close()  # the wrapper sends SIGTERM now, and SIGKILL after a while
        self._wrapper.wait(_PATIENCE_S + 10)

    def restart_crashed(self) -> None:
        """Start it again if it crashed, and count that."""
        if self.is_wanted and not self.is_running:
            self.crashes += 1
            self.start()

    def _has_begun(self) -> bool:
        with self._log.open("rb") as log:
            log.seek(self._log_begins)
            return _BEGUN in log.read()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            self._log_begins = log.tell()
            return subprocess.Popen(
                [sys.executable, "-I", "-S", str(_WRAPPER), str(_PATIENCE_S), *self._command],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # Ctrl-C at the terminal must reach only this process
            )

    def _program(self) -> psutil.Process | None:
        """Return the program that the wrapper runs, once it exists; None if it has ended."""
        while self.is_running:
            with suppress(psutil.NoSuchProcess):
                if children := psutil.Process(self._wrapper.pid).children():
                    return children[0]
            time.sleep(0.01)
        return None

    def _signal_all(self, number: signal.Signals) -> None:
        """Send a signal to its process group, whose id is its pid."""
        if program := self._program():
            with suppress(ProcessLookupError):
                os.killpg(program.pid, number)
