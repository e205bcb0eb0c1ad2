"""Each guard can still be removed, and the runner judges its mutant correctly."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from proofs.mutants.guards import GUARDS, ROOT, Edit, Mutant, load
from proofs.mutants.project import DoesNotApplyError, Project
from proofs.mutants.trial import Verdict, judge

PRODUCT = """
def is_full(places, capacity):
    while places < 0:
        places += 1
    return places >= capacity and capacity >= 0


def door(places, capacity):
    if is_full(places, capacity):
        raise ValueError("full")
    return places + 1
"""

TESTS = """
import pytest
from persistence import door, is_full


def test_a_full_room_refuses_entry():
    with pytest.raises(ValueError):
        door(2, 2)
    assert not is_full(-1, 1)
"""

GUARD = """
[[guard]]
name = "{name}"
why = "places are counted"
hangs = {hangs}
tests = ["test_a_full_room_refuses_entry"]
edit = [{{ at = "{at}", old = "{old}", new = "{new}" }}]
"""

FAKES = {
    "the-capacity": ("is_full", "places >= capacity and", "places > capacity and"),
    "no-capacity-below-zero": ("is_full", " and capacity >= 0", ""),
    "a-name-that-is-none": ("door", "places + 1", "places + one"),
    "broken": ("door", "is_full", "is_empty"),
    "gone": ("is_full", "places == capacity", "True"),
    "an-end": ("is_full", "places += 1", "pass"),
}

VERDICTS = {
    "the-capacity": Verdict.KILLED,
    "no-capacity-below-zero": Verdict.SURVIVED,
    "a-name-that-is-none": Verdict.SURVIVED,
    "broken": Verdict.ERROR,
    "gone": Verdict.ERROR,
    "an-end": Verdict.BY_TIME,
}


PARTS = """
LIMIT = 1

if LIMIT:
    SECOND_LIMIT = 2


class Door:
    width: int = 3

    @property
    def height(self):
        return 4


class Gate:
    width: int = 5
"""


def test_every_guard_still_applies() -> None:
    """Each guard's text occurs once, the result of its edit is Python, and its tests exist."""
    project = Project(ROOT)
    for mutant in load():
        assert mutant.texts(project)
        assert all(project.test(test) for test in mutant.tests)


def test_a_guard_survives_a_move(tmp_path: Path) -> None:
    """A guard applies after its code and tests have moved to other folders and files."""
    mutant = Mutant("m", "", (Edit("is_full", "places >=", "places >"),), ("test_a_full_room_refuses_entry",))
    before = _project(tmp_path / "before", {"persistence/door.py": PRODUCT, "tests/test_door.py": TESTS})
    after = _project(tmp_path / "after", {"tasks/house/gate.py": PRODUCT, "tests/house/test_gate.py": TESTS})

    weakened = PRODUCT.replace("places >=", "places >")
    assert mutant.texts(before) == {"persistence/door.py": weakened}
    assert mutant.texts(after) == {"tasks/house/gate.py": weakened}
    assert before.test(*mutant.tests) == "tests/test_door.py::test_a_full_room_refuses_entry"
    assert after.test(*mutant.tests) == "tests/house/test_gate.py::test_a_full_room_refuses_entry"


@pytest.mark.parametrize(
    ("at", "old"),
    [
        ("LIMIT", "1"),
        ("SECOND_LIMIT", "2"),
        ("Door.width", "3"),
        ("Door.height", "@property"),
        ("Door", "4"),
        ("Gate", "5"),
        ("house:Gate", "5"),
        ("persistence.house:Gate", "5"),
        ("house.py", "1"),
        ("view.sql", "6"),
        ("schema/view.sql", "6"),
    ],
)
def test_an_edit_is_made_within_the_part_that_it_names(tmp_path: Path, at: str, old: str) -> None:
    """A part is a symbol with its decorators, or a file; a module or a folder may precede its name."""
    project = _project(tmp_path, {"persistence/house.py": PARTS, "persistence/schema/view.sql": "SELECT 6"})

    file, start, end, _ = Edit(at, old, "").change(project)

    assert project.text(file)[start:end] == old


@pytest.mark.parametrize(
    ("at", "old", "complaint"),
    [
        ("nowhere", "x", "nowhere is defined 0 times, not once"),
        ("LIMIT", "1", "LIMIT is defined 2 times, not once: persistence/a.py, persistence/b.py"),
        ("a:Door.depth", "x", "a:Door.depth is defined 0 times, not once"),
        ("a:Door", "5", "a:Door: found 0 times, not once: 5"),
        ("a.py", "width", "a.py: found 2 times, not once: width"),
        ("a:LIMIT", "= 1", "persistence/a.py: the result of the edit is not Python"),
    ],
)
def test_an_edit_that_does_not_apply_is_an_error(tmp_path: Path, at: str, old: str, complaint: str) -> None:
    """An edit that does not match once, or whose result is not Python, is an error."""
    project = _project(tmp_path, {"persistence/a.py": PARTS, "persistence/b.py": PARTS})
    with pytest.raises(DoesNotApplyError, match=f"^{complaint}"):
        Mutant("m", "", (Edit(at, old, "= ="),), ()).texts(project)


def test_a_test_is_named_without_its_folder(tmp_path: Path) -> None:
    """A test is named by its function, by file and function if the name is not unique, or by its file."""
    test = "def test_it(): ...\n"
    project = _project(
        tmp_path, {"tests/test_a.py": test, "tests/deep/test_b.py": f"{test}class TestB:\n    {test}"}
    )

    assert project.test("test_b:test_it") == "tests/deep/test_b.py::test_it"
    assert project.test("TestB.test_it") == "tests/deep/test_b.py::TestB::test_it"
    assert project.test("test_b.py") == "tests/deep/test_b.py"
    for name, count in (("test_it", 2), ("test_that", 0)):
        with pytest.raises(DoesNotApplyError, match=f"^{name} is defined {count} times, not once"):
            project.test(name)


def test_changes_of_one_file_do_not_move_each_other(tmp_path: Path) -> None:
    """Edits of one file apply to its original text, in any order."""
    project = _project(tmp_path, {"tasks/house.py": PARTS})
    edits = (Edit("LIMIT", "1", "1000"), Edit("Gate", "width", "how_wide"), Edit("Door", "4", "4000"))

    expected = PARTS.replace("1", "1000").replace("width: int = 5", "how_wide: int = 5").replace("4", "4000")
    assert Mutant("m", "", edits, ()).texts(project) == {"tasks/house.py": expected}


@pytest.mark.parametrize(
    ("code", "report", "verdict"),
    [
        (0, {"passed": 1}, Verdict.SURVIVED),
        (0, {"passed": 0}, Verdict.ERROR),
        (0, {"passed": 1, "strayed": ["/elsewhere/tasks"]}, Verdict.ERROR),
        (1, {"failures": [{"test": "t", "when": "call", "said": "E   assert 1 == 2"}]}, Verdict.KILLED),
        (1, {"failures": [{"test": "t", "when": "setup", "said": "E   assert 1 == 2"}]}, Verdict.ERROR),
        (
            1,
            {"failures": [{"test": "t", "when": "call", "said": "E   NameError: no such name"}]},
            Verdict.ERROR,
        ),
        (2, {"failures": [{"test": "t", "when": "collect", "said": "SyntaxError"}]}, Verdict.ERROR),
        (4, {}, Verdict.ERROR),
    ],
)
def test_only_a_failing_assertion_kills_a_mutant(
    code: int, report: dict[str, object], verdict: Verdict
) -> None:
    """A test that cannot start, and code that is broken instead of weakened, are errors."""
    assert judge(code, report)[0] is verdict


@pytest.mark.gate
def test_a_surviving_mutant_is_reported_as_a_failure(tmp_path: Path) -> None:
    """Each verdict is reported by name, also as JSON, and the project is not changed."""
    root, guards = tmp_path / "project", tmp_path / "guards"
    (root / "tests").mkdir(parents=True)
    guards.mkdir()
    (root / "persistence.py").write_text(PRODUCT, encoding="utf-8")
    (root / "tests" / "test_door.py").write_text(TESTS, encoding="utf-8")
    rows = (
        GUARD.format(name=name, at=at, old=old, new=new, hangs=str(name == "an-end").lower())
        for name, (at, old, new) in FAKES.items()
    )
    (guards / "door.toml").write_text("".join(rows), encoding="utf-8")

    ended = subprocess.run(
        [sys.executable, "-m", "proofs.mutants", "--no-servers", "--limit", "15", "--root", root, "--guards", guards,
         "--json", tmp_path / "report.json"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(GUARDS.parents[2]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )  # fmt: skip

    assert ended.returncode == 1, ended.stderr
    outcomes = {
        outcome["name"]: outcome["verdict"] for outcome in json.loads((tmp_path / "report.json").read_text())
    }
    assert outcomes == VERDICTS
    assert "survived: no-capacity-below-zero" in ended.stdout
    assert "not ended within 3 s" in ended.stdout
    assert (root / "persistence.py").read_text(encoding="utf-8") == PRODUCT


def test_unknown_guards_are_a_usage_error() -> None:
    """A guard is selected by a part of its name; a name that matches none is a usage error."""
    for words, code, expected in (("fence", 0, "fence-live"), ("nothing-of-this-name", 2, "no guard has")):
        ended = subprocess.run(
            [sys.executable, "-m", "proofs.mutants", "--list", "--only", words],
            env={"PYTHONPATH": str(GUARDS.parents[2])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == code
        assert expected in ended.stdout + ended.stderr


def _project(root: Path, files: dict[str, str]) -> Project:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return Project(root)
