"""Starts the processes of a peer, sends them requests, and ends them with the benchmark."""

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from select import select
from typing import TYPE_CHECKING, Self

from benchmarks.harness.bed import PATIENCE_S, Bed

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_WRAPPER = _ROOT / "console" / "demo" / "tied_process.py"
_GRACE_S = 5
"""Seconds until a worker that does not end is killed."""


class Program:
    """One process. It prints `ready` when it is, and again when it has done what was requested."""

    def __init__(self, bed: Bed, *command: str) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=_ROOT,
            env=os.environ | bed.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C at the terminal goes to the benchmark only
        )
        assert self._process.stdin
        assert self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close its input, which ends it."""
        self._input.close()
        self._process.wait()
        self._output.close()

    def until_ready(self) -> None:
        """Wait until it prints `ready`. Raises RuntimeError if it ends, or prints nothing in time."""
        if not select([self._output], [], [], PATIENCE_S)[0] or self._output.readline() != "ready\n":
            raise RuntimeError(f"this process has ended, or is not ready in time: {self._process.args}")

    def send(self, line: str) -> None:
        """Send one line to it."""
        self._input.write(f"{line}\n")
        self._input.flush()


@contextmanager
def programs(bed: Bed, peer: str, role: str, count: int = 1) -> "Iterator[list[Program]]":
    """Run *count* processes of a peer in this role, all ready; they end with this process, however it ends."""
    with ExitStack() as started:
        made = [started.enter_context(Program(bed, *_tied(_command(peer, role)))) for _ in range(count)]
        for program in made:
            program.until_ready()
        yield made


@contextmanager
def submitter(bed: Bed, peer: str) -> "Iterator[Program]":
    """Run a process that submits no-op jobs on request; it is ready."""
    with Program(bed, *_command(peer, "submit")) as program:
        program.until_ready()
        yield program


def install(bed: Bed, peer: str) -> None:
    """Create the peer's own tables. Raises RuntimeError if its package is missing."""
    if not find_spec("uvloop"):
        raise RuntimeError("The peers are not installed: run scripts/bootstrap bench.")
    subprocess.run(_command(peer, "install"), cwd=_ROOT, env=os.environ | bed.environment(), check=True)


def _command(peer: str, role: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.peers", peer, role]


def _tied(command: list[str]) -> list[str]:
    return [sys.executable, "-I", "-S", str(_WRAPPER), str(_GRACE_S), *command]
