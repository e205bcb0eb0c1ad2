"""One test session: pytest in a child process, forked after large libraries were loaded."""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from proofs.mutants import watch

_LARGE = (
    "celery.bin.worker",
    "hashlib",
    "httpx",
    "kombu.transport.redis",
    "psycopg.rows",
    "psycopg.sql",
    "pydantic_settings",
    "redis",
    "rich.console",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.orm",
    "structlog",
    "ulid",
)

_OPTIONS = (
    "-x",
    "-q",
    "-pno:cacheprovider",
    # In the named order and with one seed, so that a trial can be repeated.
    "--randomly-dont-reorganize",
    "--randomly-seed=1",
    # A session that hangs is ended from outside.
    "--timeout=0",
    # The libraries were loaded before pytest started; their asserts need no rewriting.
    "-Wignore::pytest.PytestAssertRewriteWarning",
)

_CLEAN_UP_S = 10.0
"""How long a session may clean up after SIGINT."""


def warm_up() -> None:
    """Load what every session needs and no mutant changes, which is half of its work."""
    for name in _LARGE:
        import_module(name)


@dataclass(frozen=True)
class Session:
    """A running or ended session."""

    pid: int
    report: Path
    deadline: float

    @classmethod
    def start(
        cls, copy: Path, tests: Sequence[str], environment: Mapping[str, str], patience: float
    ) -> "Session":
        """Start the tests of the project at *copy*, in a process group of its own."""
        report = copy.parent / "report.json"
        sys.stdout.flush()  # or the child would write it again
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os._exit(_run(copy, tests, {**environment, watch.VARIABLE: str(report)}))
        return cls(pid, report, monotonic() + patience)

    def code(self) -> int | None:
        """Return pytest's exit code; None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def read_report(self) -> dict[str, Any]:
        """Return the report of the plugin."""
        return dict(json.loads(self.report.read_text("utf-8"))) if self.report.exists() else {}

    def end(self) -> None:
        """Let it clean up, then kill it."""
        for signal_ in (signal.SIGINT, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal_)
            until = monotonic() + _CLEAN_UP_S
            while monotonic() < until:
                if self.code() is not None:
                    return
                sleep(0.05)


def _run(copy: Path, tests: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run in the child process; return pytest's exit code."""
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _redirect_output(copy.parent / "output.txt")
        os.chdir(copy)
        # The environment has the project itself on its path; the copy and its tests must come first.
        paths = [str(copy), str(copy / "tests")]
        sys.path[:0] = paths
        os.environ.update(environment, PYTHONPATH=os.pathsep.join(paths))
        return int(pytest.main([*_OPTIONS, *tests], plugins=[watch]))
    except BaseException:
        return int(pytest.ExitCode.INTERNAL_ERROR)


def _redirect_output(file: Path) -> None:
    with file.open("wb") as output, Path(os.devnull).open("rb") as empty:
        os.dup2(empty.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
