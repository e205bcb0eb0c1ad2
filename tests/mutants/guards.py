"""The guards, as data: what is weakened, by which edit, and which tests must see it."""

import ast
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GUARDS = Path(__file__).parent / "guards"


class DoesNotApplyError(Exception):
    """The sources have moved on: the edit of a guard finds its text no more, or not once."""


@dataclass(frozen=True)
class Edit:
    """A text that stands once in a file, and what is put in its place."""

    file: str
    old: str
    new: str

    def applied(self, text: str) -> str:
        """The file's text after the edit."""
        if (found := text.count(self.old)) != 1:
            raise DoesNotApplyError(f"{self.file}: found {found} times, not once: {self.old.strip()}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Mutant:
    """The project with one guard less."""

    name: str
    why: str
    """What the guard is there for."""
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    """Files, or node ids, below tests/: one of them must fail."""
    hangs: bool = False
    """Whether a test may hang without the guard; otherwise that is an error."""

    def texts(self, root: Path) -> dict[str, str]:
        """
        The text of each file that it changes.

        Raises DoesNotApplyError where an edit does not apply, or what comes of it is no Python.
        """
        texts: dict[str, str] = {}
        for edit in self.edits:
            text = texts.get(edit.file) or _text(root / edit.file)
            texts[edit.file] = edit.applied(text)
        for file, text in texts.items():
            _check(file, text)
        return texts


def load(folder: Path = GUARDS) -> list[Mutant]:
    """All guards, file by file."""
    files = sorted(folder.glob("*.toml"))
    mutants = [_mutant(row) for file in files for row in tomllib.loads(file.read_text("utf-8"))["guard"]]
    twice = [name for name, count in Counter(m.name for m in mutants).items() if count > 1]
    if twice:
        raise ValueError(f"two guards have one name: {', '.join(twice)}")
    return mutants


def chosen(mutants: Iterable[Mutant], words: Iterable[str]) -> list[Mutant]:
    """Those in whose names one of the words stands; all of them where there is no word."""
    wanted = tuple(words)
    return [m for m in mutants if not wanted or any(word in m.name for word in wanted)]


def _mutant(row: dict[str, Any]) -> Mutant:
    edits = tuple(Edit(**edit) for edit in row.pop("edit"))
    return Mutant(edits=edits, tests=tuple(row.pop("tests")), **row)


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        raise DoesNotApplyError(f"there is no {file.name}") from None


def _check(file: str, text: str) -> None:
    try:
        ast.parse(text, file)
    except SyntaxError as error:
        raise DoesNotApplyError(f"{file}: what comes of the edit is no Python: {error.msg}") from None
