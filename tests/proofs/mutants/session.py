"""One test session: pytest in a child of this process, which has loaded already what is large and not ours."""

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
    # In the order in which they are named, and with one seed: what was tried can be tried again.
    "--randomly-dont-reorganize",
    "--randomly-seed=1",
    # A session that hangs is ended from outside.
    "--timeout=0",
    # What was loaded before pytest began; none of it has an assert for us.
    "-Wignore::pytest.PytestAssertRewriteWarning",
)

_FAREWELL_S = 10.0
"""So long a session that is ended has to clean up."""


def warm_up() -> None:
    """Load what every session needs and no mutant changes: half of its work."""
    for name in _LARGE:
        import_module(name)


@dataclass(frozen=True)
class Session:
    """A session that runs, or has run."""

    pid: int
    report: Path
    deadline: float

    @classmethod
    def begin(
        cls, copy: Path, tests: Sequence[str], environment: Mapping[str, str], patience: float
    ) -> "Session":
        """Begin to run tests of the project at *copy*, in a process group of its own."""
        report = copy.parent / "report.json"
        sys.stdout.flush()  # or the child would say it again
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os._exit(_run(copy, tests, {**environment, watch.VARIABLE: str(report)}))
        return cls(pid, report, monotonic() + patience)

    def code(self) -> int | None:
        """Pytest's exit code; None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def read_report(self) -> dict[str, Any]:
        """What the plugin reported."""
        return dict(json.loads(self.report.read_text("utf-8"))) if self.report.exists() else {}

    def end(self) -> None:
        """Let it clean up, and kill what is left of it."""
        for signal_ in (signal.SIGINT, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal_)
            until = monotonic() + _FAREWELL_S
            while monotonic() < until:
                if self.code() is not None:
                    return
                sleep(0.05)


def _run(copy: Path, tests: Sequence[str], environment: Mapping[str, str]) -> int:
    """In the child."""
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _redirect_output(copy.parent / "output.txt")
        os.chdir(copy)
        # The environment has the project itself on its path; before it come the copy and its tests.
        paths = [str(copy), str(copy / "tests")]
        sys.path[:0] = paths
        os.environ.update(environment, PYTHONPATH=os.pathsep.join(paths))
        return int(pytest.main([*_OPTIONS, *tests], plugins=[watch]))
    except BaseException:
        return int(pytest.ExitCode.INTERNAL_ERROR)


def _redirect_output(file: Path) -> None:
    with file.open("wb") as output, Path(os.devnull).open("rb") as silence:
        os.dup2(silence.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
