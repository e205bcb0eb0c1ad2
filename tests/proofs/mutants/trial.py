"""Trials: the tests of each guard, in a copy of the project without it, several side by side."""

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

PATIENCE_S = 240.0
_A_TEST_S = 30.0
"""
So long the tests of one guard may take, and so much longer for each of them.

Where they may hang without it, this last is all: they take a second with it.
"""

_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "node_modules", ".*_cache", ".hypothesis", "dist", "build"
)

_BROKEN = re.compile(
    r"^(?:E +)?(?:[\w.]+\.)?(?:NameError|UnboundLocalError|ImportError|ModuleNotFoundError|SyntaxError): .*"
    r"|DatabaseFaultError: \w+ \(42(?!501|P01).*",
    re.MULTILINE,
)
"""What an edit leads to that breaks the code or the statement, where it should have weakened it."""


class Verdict(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    ERROR = "error"


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant, and by which test."""

    name: str
    why: str
    """What the guard is there for."""
    verdict: Verdict
    seconds: float
    detail: str
    """The test that failed; of an error, what is wrong."""


@dataclass(frozen=True)
class _Trial:
    """A mutant at its trial."""

    mutant: Mutant
    session: Session
    began: float

    def ended(self) -> Outcome | None:
        """What became of it; None while that is open."""
        code = self.session.code()
        if code is not None:
            return _outcome(self.mutant, self.began, *judge(code, self.session.read_report()))
        if monotonic() < self.session.deadline:
            return None
        self.session.end()
        fate = Verdict.KILLED if self.mutant.hangs else Verdict.ERROR
        return _outcome(self.mutant, self.began, fate, "the tests hang")


@dataclass
class Trials:
    """
    Trials of a project. It is copied once, to *folder*, and from there for each trial.

    *places* are the environments in which trials run, one in each at a time.
    """

    root: Path
    folder: Path
    places: Sequence[Mapping[str, str]]

    def __post_init__(self) -> None:
        self._whole = self.folder / "whole" / "project"
        shutil.copytree(self.root, self._whole, ignore=_LEFT_OUT)
        self.project = Project(self._whole)
        compileall.compile_dir(self._whole, quiet=2)  # once for all that are copied from it

    def of(self, mutants: Iterable[Mutant]) -> Iterator[Outcome]:
        """Try each of them; what became of it, in the order in which they end."""
        waiting, running = deque(mutants), dict[int, _Trial]()
        try:
            while waiting or running:
                yield from self._begin(waiting, running)
                yield from _ended(running)
                sleep(0.02)
        finally:
            for trial in running.values():
                trial.session.end()

    def _begin(self, waiting: deque[Mutant], running: dict[int, _Trial]) -> Iterator[Outcome]:
        """Begin a trial in each place that is free; those of which it is known at once are over."""
        free = [place for place in range(len(self.places)) if place not in running]
        for place in free[: len(waiting)]:
            began = self._began(waiting.popleft(), place)
            if isinstance(began, Outcome):
                yield began
            else:
                running[place] = began

    def _began(self, mutant: Mutant, place: int) -> _Trial | Outcome:
        began = monotonic()
        try:
            texts = mutant.texts(self.project)
            tests = [self.project.test(test) for test in mutant.tests]
        except DoesNotApplyError as error:
            return _outcome(mutant, began, Verdict.ERROR, str(error))
        copy = self.folder / mutant.name / "project"
        shutil.copytree(self._whole, copy)
        for file, text in texts.items():
            (copy / file).write_text(text, encoding="utf-8")
        patience = _A_TEST_S if mutant.hangs else PATIENCE_S + _A_TEST_S * len(tests)
        return _Trial(mutant, Session.begin(copy, tests, self.places[place], patience), began)


def without_a_mutant(project: Project, mutants: Iterable[Mutant], parts: int) -> list[Mutant]:
    """All that the mutants name, on the project as it is: a test that fails anyway kills nothing."""
    # Sorted by their files, as some share fixtures that are expensive to make.
    tests = sorted({test for mutant in mutants for test in mutant.tests}, key=project.test)
    shares = [tuple(tests[part::parts]) for part in range(parts)]
    return [Mutant(f"no-mutant-{n}", "", (), share) for n, share in enumerate(shares) if share]


def judge(code: int, report: Mapping[str, Any]) -> tuple[Verdict, str]:
    """A kill is a test that fails in its own words; whatever else goes wrong is an error."""
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
        return Verdict.ERROR, f"it breaks, and does not weaken: {broken[0]}"
    return Verdict.KILLED, first["test"].removeprefix("tests/")


def _ended(running: dict[int, _Trial]) -> Iterator[Outcome]:
    """Take out what is over, with its copy."""
    for place, trial in list(running.items()):
        if outcome := trial.ended():
            del running[place]
            shutil.rmtree(trial.session.report.parent, ignore_errors=True)
            yield outcome


def _outcome(mutant: Mutant, began: float, verdict: Verdict, detail: str) -> Outcome:
    return Outcome(mutant.name, mutant.why, verdict, round(monotonic() - began, 1), detail)
