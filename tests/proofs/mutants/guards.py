"""The guards, as data: which edit removes each, and which tests must fail then."""

import ast
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofs.mutants.project import DoesNotApplyError, Project

ROOT = Path(__file__).resolve().parents[3]
GUARDS = Path(__file__).parent / "guards"


@dataclass(frozen=True)
class Edit:
    """A text that occurs once in a part of the product, and its replacement."""

    at: str
    """A symbol, or a file: see `Project.part`."""
    old: str
    new: str

    def change(self, project: Project) -> tuple[str, int, int, str]:
        """Return the file, the start and end of the text in it, and the replacement."""
        part = project.part(self.at)
        text = project.text(part.file)[: part.end]
        if (found := text.count(self.old, part.start)) != 1:
            raise DoesNotApplyError(f"{self.at}: found {found} times, not once: {self.old}")
        start = text.index(self.old, part.start)
        return part.file, start, start + len(self.old), self.new


@dataclass(frozen=True)
class Mutant:
    """The project without one guard."""

    name: str
    why: str
    """What the guard ensures."""
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    """One of them must fail: see `Project.test`."""
    hangs: bool = False
    """True if a test is known to hang without the guard, so that its trial need not wait for long."""

    def texts(self, project: Project) -> dict[str, str]:
        """
        Return the new text of each file that it changes.

        Raises DoesNotApplyError if an edit does not apply, or its result is not Python.
        """
        texts: dict[str, str] = {}
        # Last change first, so that it does not move the others.
        for file, start, end, new in sorted((edit.change(project) for edit in self.edits), reverse=True):
            text = texts.get(file) or project.text(file)
            texts[file] = text[:start] + new + text[end:]
        for file, text in texts.items():
            if file.endswith(".py"):
                _check(file, text)
        return texts


def load(folder: Path = GUARDS) -> list[Mutant]:
    """Return all guards, file by file."""
    files = sorted(folder.glob("*.toml"))
    mutants = [_mutant(row) for file in files for row in tomllib.loads(file.read_text("utf-8"))["guard"]]
    twice = [name for name, count in Counter(m.name for m in mutants).items() if count > 1]
    if twice:
        raise ValueError(f"two guards have one name: {', '.join(twice)}")
    return mutants


def chosen(mutants: Iterable[Mutant], names: Iterable[str]) -> list[Mutant]:
    """Return the mutants whose names contain one of *names*; all of them if there are no names."""
    wanted = tuple(names)
    return [m for m in mutants if not wanted or any(name in m.name for name in wanted)]


def _mutant(row: dict[str, Any]) -> Mutant:
    edits = tuple(Edit(**edit) for edit in row.pop("edit"))
    return Mutant(edits=edits, tests=tuple(row.pop("tests")), **row)


def _check(file: str, text: str) -> None:
    try:
        ast.parse(text, file)
    except SyntaxError as error:
        raise DoesNotApplyError(f"{file}: the result of the edit is not Python: {error.msg}") from None
