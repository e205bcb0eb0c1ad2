"""Trials: the tests of each guard run in a copy of the project without it, several concurrently."""

import compileall
import re
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from proofs.mutants.guards import Mutant
from proofs.mutants.project import DoesNotApplyError, Project
from proofs.mutants.session import Session

LIMIT_S = 150.0
"""
How long a trial may take, and a fifth of it longer for each test.

If the tests are known to hang without the guard, only a fifth: with the guard they take a second.
"""

_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "node_modules", ".*_cache", ".hypothesis", "dist", "build"
)

_BROKEN = re.compile(
    r"^(?:E +)?(?:[\w.]+\.)?(?:NameError|UnboundLocalError|ImportError|ModuleNotFoundError|SyntaxError): .*"
    r"|DatabaseFaultError: \w+ \(42(?!501|P01).*",
    re.MULTILINE,
)
"""Errors of an edit that broke the code or the statement instead of weakening it."""


class Verdict(StrEnum):
    """The verdict on a mutant."""

    KILLED = "killed"
    BY_TIME = "killed by time"
    """The tests did not end within their limit, as they do with the guard."""
    SURVIVED = "survived"
    ERROR = "error"


@dataclass(frozen=True)
class Outcome:
    """The verdict on one mutant, and the test that decided it."""

    name: str
    why: str
    """What the guard ensures."""
    verdict: Verdict
    seconds: float
    detail: str
    """The test that failed; for an error, what is wrong."""


@dataclass(frozen=True)
class _Trial:
    """A running trial of a mutant."""

    mutant: Mutant
    session: Session
    started: float
    limit_s: float

    def ended(self) -> Outcome | None:
        """Return the outcome; None while it runs."""
        code = self.session.code()
        if code is not None:
            return _outcome(self.mutant, self.started, *judge(code, self.session.read_report()))
        if monotonic() < self.session.deadline:
            return None
        self.session.end()
        # Without a mutant this says nothing of a guard.
        verdict = Verdict.BY_TIME if self.mutant.edits else Verdict.ERROR
        return _outcome(self.mutant, self.started, verdict, f"not ended within {self.limit_s:.0f} s")


@dataclass
class Trials:
    """
    Trials of a project, which is copied once to *folder*, and from there for each trial.

    *places* are the environments of trials; each runs one trial at a time.
    """

    root: Path
    folder: Path
    places: Sequence[Mapping[str, str]]
    limit_s: float = LIMIT_S

    def __post_init__(self) -> None:
        self._whole = self.folder / "whole" / "project"
        shutil.copytree(self.root, self._whole, ignore=_LEFT_OUT)
        self.project = Project(self._whole)
        compileall.compile_dir(self._whole, quiet=2)  # once for all copies

    def of(self, mutants: Iterable[Mutant]) -> Iterator[Outcome]:
        """Try each mutant; yield the outcomes in the order in which they end."""
        waiting, running = deque(mutants), dict[int, _Trial]()
        try:
            while waiting or running:
                yield from self._fill_places(waiting, running)
                yield from _ended(running)
                sleep(0.02)
        finally:
            for trial in running.values():
                trial.session.end()

    def _fill_places(self, waiting: deque[Mutant], running: dict[int, _Trial]) -> Iterator[Outcome]:
        """Start a trial in each free place; yield the outcomes that are known at once."""
        free = [place for place in range(len(self.places)) if place not in running]
        for place in free[: len(waiting)]:
            started = self._start(waiting.popleft(), place)
            if isinstance(started, Outcome):
                yield started
            else:
                running[place] = started

    def _start(self, mutant: Mutant, place: int) -> _Trial | Outcome:
        started = monotonic()
        try:
            texts = mutant.texts(self.project)
            tests = [self.project.test(test) for test in mutant.tests]
        except DoesNotApplyError as error:
            return _outcome(mutant, started, Verdict.ERROR, str(error))
        copy = self.folder / mutant.name / "project"
        shutil.copytree(self._whole, copy)
        for file, text in texts.items():
            (copy / file).write_text(text, encoding="utf-8")
        limit = self.limit_s / 5 * (1 if mutant.hangs else 5 + len(tests))
        return _Trial(mutant, Session.start(copy, tests, self.places[place], limit), started, limit)


def without_a_mutant(project: Project, mutants: Iterable[Mutant], parts: int) -> list[Mutant]:
    """Return trials of all named tests without a mutant: a test that fails anyway kills nothing."""
    # Sorted by file, since some share expensive fixtures.
    tests = sorted({test for mutant in mutants for test in mutant.tests}, key=project.test)
    shares = [tuple(tests[part::parts]) for part in range(parts)]
    return [Mutant(f"no-mutant-{n}", "", (), share) for n, share in enumerate(shares) if share]


def judge(code: int, report: Mapping[str, Any]) -> tuple[Verdict, str]:
    """Judge a trial: only a test that fails in its body kills a mutant; any other problem is an error."""
    if report.get("strayed"):
        return Verdict.ERROR, f"loaded from elsewhere: {', '.join(report['strayed'])}"
    failures = report.get("failures", [])
    if code == 0 and report.get("passed"):
        return Verdict.SURVIVED, ""
    if code != 1 or not failures:
        return Verdict.ERROR, f"pytest ended with {code}"
    first = failures[0]
    if first["when"] != "call":
        return Verdict.ERROR, f"{first['test']} failed in its {first['when']}"
    if broken := _BROKEN.search(first["said"]):
        return Verdict.ERROR, f"the edit breaks the code: {broken[0]}"
    return Verdict.KILLED, first["test"].removeprefix("tests/")


def _ended(running: dict[int, _Trial]) -> Iterator[Outcome]:
    """Remove ended trials with their copies, and yield their outcomes."""
    for place, trial in list(running.items()):
        if outcome := trial.ended():
            del running[place]
            shutil.rmtree(trial.session.report.parent, ignore_errors=True)
            yield outcome


def _outcome(mutant: Mutant, started: float, verdict: Verdict, detail: str) -> Outcome:
    return Outcome(mutant.name, mutant.why, verdict, round(monotonic() - started, 1), detail)
