"""The guards can still be taken away one by one, and who takes them away tells what became of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mutants.guards import GUARDS, ROOT, DoesNotApplyError, Edit, Mutant, load
from mutants.trial import Fate, judged

PRODUCT = """
def is_full(seats, capacity):
    return seats >= capacity and capacity >= 0


def door(seats, capacity):
    if is_full(seats, capacity):
        raise ValueError("full")
    return seats + 1
"""

TESTS = """
import pytest
from persistence import door


def test_nobody_is_let_in_where_it_is_full():
    with pytest.raises(ValueError):
        door(2, 2)
"""

GUARD = """
[[guard]]
name = "{name}"
why = "seats are counted"
tests = ["test_door.py"]
edit = [{{ file = "persistence.py", old = "{old}", new = "{new}" }}]
"""

FAKES = {
    "the-capacity": ("seats >= capacity and", "seats > capacity and"),
    "no-capacity-below-zero": (" and capacity >= 0", ""),
    "a-name-that-is-none": ("return seats + 1", "return seats + one"),
    "broken": ("if is_full(seats, capacity):", "if is_empty(seats, capacity):"),
    "gone": ("seats == capacity", "True"),
}

FATES = {
    "the-capacity": Fate.KILLED,
    "no-capacity-below-zero": Fate.SURVIVED,
    "a-name-that-is-none": Fate.SURVIVED,
    "broken": Fate.ERROR,
    "gone": Fate.ERROR,
}


def test_every_guard_is_where_it_was() -> None:
    """Its text stands there once, what comes of the edit is Python, and its tests are there."""
    for mutant in load():
        assert mutant.texts(ROOT)
        for test in mutant.tests:
            file, _, name = test.partition("::")
            assert f"def {name}" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test


def test_an_edit_that_applies_no_more_is_an_error() -> None:
    """Or not once, or leads to no Python: the list cannot rot."""
    for old, new in (("nowhere in it", "x"), ("limit", "x"), ("PATIENCE_S = ", "PATIENCE_S = = ")):
        mutant = Mutant("m", "", (Edit("tests/mutants/trial.py", old, new),), ())
        with pytest.raises(DoesNotApplyError):
            mutant.texts(ROOT)


@pytest.mark.parametrize(
    ("code", "told", "fate"),
    [
        (0, {"passed": 1}, Fate.SURVIVED),
        (0, {"passed": 0}, Fate.ERROR),
        (0, {"passed": 1, "strayed": ["/elsewhere/tasks"]}, Fate.ERROR),
        (1, {"failures": [{"test": "t", "when": "call", "said": "E   assert 1 == 2"}]}, Fate.KILLED),
        (1, {"failures": [{"test": "t", "when": "setup", "said": "E   assert 1 == 2"}]}, Fate.ERROR),
        (1, {"failures": [{"test": "t", "when": "call", "said": "E   NameError: no such name"}]}, Fate.ERROR),
        (2, {"failures": [{"test": "t", "when": "collect", "said": "SyntaxError"}]}, Fate.ERROR),
        (4, {}, Fate.ERROR),
    ],
)
def test_only_a_test_that_fails_in_its_own_words_kills(
    code: int, told: dict[str, object], fate: Fate
) -> None:
    """Not one that cannot begin, and not code that is broken instead of weakened."""
    assert judged(code, told)[0] is fate


def test_a_survivor_is_told_and_is_a_failure(tmp_path: Path) -> None:
    """Each fate is told by name, as JSON too, and the project at hand is not touched."""
    root, guards = tmp_path / "project", tmp_path / "guards"
    (root / "tests").mkdir(parents=True)
    guards.mkdir()
    (root / "persistence.py").write_text(PRODUCT, encoding="utf-8")
    (root / "tests" / "test_door.py").write_text(TESTS, encoding="utf-8")
    rows = (GUARD.format(name=name, old=old, new=new) for name, (old, new) in FAKES.items())
    (guards / "door.toml").write_text("".join(rows), encoding="utf-8")

    ended = subprocess.run(
        [sys.executable, "-m", "mutants", "--no-servers", "--root", root, "--guards", guards,
         "--json", tmp_path / "told.json"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(GUARDS.parents[1]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )  # fmt: skip

    assert ended.returncode == 1, ended.stderr
    told = {outcome["name"]: outcome["fate"] for outcome in json.loads((tmp_path / "told.json").read_text())}
    assert told == FATES
    assert "survived: no-capacity-below-zero" in ended.stdout
    assert (root / "persistence.py").read_text(encoding="utf-8") == PRODUCT


def test_what_is_asked_for_is_listed_or_told_not_to_be() -> None:
    """By a part of its name."""
    for words, code, expected in (("fence", 0, "fence-live"), ("nothing-of-this-name", 2, "no guard has")):
        ended = subprocess.run(
            [sys.executable, "-m", "mutants", "--list", "--only", words],
            env={"PYTHONPATH": str(GUARDS.parents[1])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == code
        assert expected in ended.stdout + ended.stderr
