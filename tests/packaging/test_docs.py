"""The documentation is complete and correct: settings, tasks, events, tests it names, and links."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import psycopg
import pytest
from pydantic import BaseModel

from persistence.schema import Base, tables
from persistence.schema.event_types import EventType
from persistence.settings import Settings
from persistence.unit_of_work import unit_of_work
from tasks.contract.frames import Discovery, JobFrame
from tasks.contract.payloads import CONTRACT, Failure, Order, SaidBeat

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRACT_TEXT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(
        part.startswith(".") or part in ("build", "dist", "node_modules")
        for part in page.relative_to(ROOT).parts
    )
)

FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

ITEMS: dict[str, type[BaseModel]] = {
    "jobs.submit": Order,
    "connections.heartbeat": SaidBeat,
    "failures.log": Failure,
}
"""The items of batches that have fields of their own."""


OURS = [
    mapped
    for mapped in vars(tables).values()
    if isinstance(mapped, type) and hasattr(mapped, "__tablename__")
]


def section(text: str, heading: str) -> str:
    """The text below a heading, up to the next heading of its level or above."""
    level = heading.split(" ", 1)[0]
    _, found, rest = text.partition(f"\n{heading}\n")
    assert found, f"there is no {heading}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """All anchors of a page."""
    return {slug(heading) for heading in HEADING.findall(FENCED.sub("", page.read_text(encoding="utf-8")))}


def test_the_settings_page_is_made_from_the_settings() -> None:
    """docs/settings.md is what scripts/settings_page.py prints; `make docs` writes it again."""
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts" / "settings_page.py"], capture_output=True, text=True, check=True
    ).stdout
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == printed
    assert [field for field, info in Settings.model_fields.items() if not info.description] == []


@pytest.mark.parametrize("task", CONTRACT)
def test_the_contract_has_every_task_with_its_fields(task: str) -> None:
    """The section of a task names every field of its payload, and of the items of its batch."""
    text = section(CONTRACT_TEXT, f"### `{task}`")
    fields = [*CONTRACT[task].model_fields, *(ITEMS[task].model_fields if task in ITEMS else ())]
    assert [field for field in fields if f"`{field}`" not in text] == []


def test_the_contract_has_no_unknown_task() -> None:
    """Sections of renamed or removed tasks do not remain."""
    headings = HEADING.findall(section(CONTRACT_TEXT, "## Tasks"))
    assert {heading.strip("`") for heading in headings} == set(CONTRACT)


def test_the_contract_has_every_frame_with_its_fields() -> None:
    """Each type has a row with each field of its data in camelCase; types that are only stored are named."""
    text = section(CONTRACT_TEXT, "## Frames")
    assert [kind for kind in ("heartbeat", "job_request") if f"`{kind}`" not in text] == []
    for frame in (*get_args(JobFrame), *get_args(Discovery)):
        (kind,) = get_args(frame.model_fields["type"].annotation)
        (row,) = re.findall(rf"^\| `{kind}` \|.*$", text, re.MULTILINE)
        fields = frame.model_fields["data"].annotation.model_fields.items()
        undocumented = [n for n, field in fields if f"`{n}`" not in row and f"`{field.alias}`" not in row]
        assert undocumented == []


def test_the_contract_has_every_event() -> None:
    """One row per type."""
    kinds = re.findall(r"^\| `(\w+)` \|", section(CONTRACT_TEXT, "## Events"), re.MULTILINE)
    assert sorted(kinds) == sorted(EventType)


def test_every_step_of_the_walks_exists() -> None:
    """Each step of ARCHITECTURE.md names a file, and a function, class or method that is defined in it."""
    text = section((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), "## Six walks")
    steps = re.findall(r"`([\w/]+\.py)` `([\w.]+)`", text)
    assert len(steps) >= len(re.findall(r"^\d+\. ", text, re.MULTILINE)) > 0
    assert [step for step in steps if step[1] not in defined_in(ROOT / step[0])] == []


def defined_in(file: Path) -> set[str]:
    """The functions, classes and methods (`Class.method`) of a file; nothing if there is no such file."""
    if not file.exists():
        return set()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, kinds)]
    methods = {f"{c.name}.{m.name}" for c in found for m in c.body if isinstance(m, kinds)}
    return {node.name for node in found} | methods


def test_every_test_in_the_parity_table_exists() -> None:
    """Each row of the tables names a test, and each named test exists."""
    text = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
    rows = [row for row in re.findall(r"^\| .* \|$", text, re.MULTILINE) if "shown by" not in row]
    named = [re.findall(r"`((?:\w+/)?test_\w+\.py)::(test_\w+)`", row) for row in rows]
    assert [row for row, tests in zip(rows, named, strict=True) if not tests] == []
    missing = {
        f"{file}::{test}"
        for tests in named
        for file, test in tests
        if not any(
            f"def {test}(" in path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob(file)
        )
    }
    assert missing == set()


def test_every_repository_method_in_the_parity_table_exists(database: str) -> None:
    """Each named method exists."""
    text = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Z]\w+)\.(\w+)`", text))
    with unit_of_work(lambda *_: None) as uow:
        repositories = {type(each).__name__: each for each in vars(uow).values()}
    assert named
    assert [
        f"{of}.{method}" for of, method in sorted(named) if not hasattr(repositories.get(of), method)
    ] == []


def test_the_readme_lists_every_table_and_sequence_for_drizzle(database: str) -> None:
    """Drizzle's push would drop a table that the list lacks."""
    ours = set(re.findall(r'"(\w+)"', section(README, "### Beside Drizzle")))
    theirs = {table.name for table in Base.metadata.tables.values()} - {t.__tablename__ for t in OURS}
    with psycopg.connect(database) as connection:
        found = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S')"
        )
        assert ours == {name for (name,) in found} - theirs


def test_the_example_reads_events_as_in_the_contract() -> None:
    """The example uses the statement of the contract, apart from whitespace."""
    (statement,) = re.findall(r"^```sql\n(-- \$1 cluster.*?)^```$", CONTRACT_TEXT, re.MULTILINE | re.DOTALL)
    example = (ROOT / "examples" / "web-app" / "src" / "events.ts").read_text(encoding="utf-8")
    assert " ".join(statement.split()) in " ".join(example.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_has_a_target(page: Path) -> None:
    """The target is an existing file or folder, and an existing heading of it."""
    targets = LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
    broken = []
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(target)
    assert broken == []
