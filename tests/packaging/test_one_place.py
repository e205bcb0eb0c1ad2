"""Each rule has one place: states are spelled once, and a table has one module that writes it."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from persistence.schema import tables, web_app
from persistence.schema.base import Base
from persistence.schema.states import AttemptStatus, EntryStatus, JobStatus, SystemStatus

ROOT = Path(__file__).parents[2]

MAPPED = (tables, web_app)
"""Importing these registers every table."""

STATES = {
    member.value for kind in (JobStatus, EntryStatus, AttemptStatus, SystemStatus) for member in kind
} - {JobStatus.UNKNOWN}

EXEMPT = ("persistence/migrations/", "persistence/schema/states.py", "console/simulator/", "console/demo/")
"""
Migrations do not change any more; the simulator and the demo stand for programs of others, which spell states.
"""

SHARED = {
    # The columns of tokens in doubt have a module of their own.
    "account_lane": {"persistence/jobs/account_queues.py", "persistence/jobs/doubts.py"},
    # The column `identity` has a module of its own.
    "job_queue": {"persistence/jobs/entries.py", "persistence/jobs/identity.py"},
    # Events are added by each unit of work, and deleted by the clean-up.
    "dispatch_event": {"persistence/events/outbox.py", "persistence/events/trim.py"},
    # The column `absent_since` has a module of its own.
    "job_assignment_mapping": {"persistence/attempts/attempts.py", "persistence/attempts/overdue.py"},
    # Rejections are added by each unit of work, and deleted when an operator replays or discards them.
    "rejected_message": {"persistence/messages/rejected.py", "persistence/messages/rejected_queries.py"},
    # The columns of jobs, `active_jobs` and `reported_jobs`, have a module of their own; so have those of links.
    "socket_connection": {
        "persistence/fleet/connections.py",
        "persistence/fleet/links.py",
        "persistence/fleet/slots.py",
    },
}
"""Tables that several modules of one area write."""

CLASSES = {mapper.class_.__name__: mapper.local_table.name for mapper in Base.registry.mappers}

ORDERED = {"connections", "entries", "attempts", "jobs", "areas"}
"""The repositories whose rows are locked together, in this order."""

WRITE = re.compile(r'\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+"?(\w+)"?', re.IGNORECASE)

QUOTED = re.compile(r"'(\w+)'")


@cache
def product() -> dict[str, ast.Module]:
    """The modules of the product to which the rules apply, by their paths."""
    paths = [
        path
        for folder in ("persistence", "tasks", "gateway", "console")
        for path in (ROOT / folder).rglob("*.py")
    ]
    names = {path.relative_to(ROOT).as_posix(): path for path in sorted(paths)}
    return {
        name: ast.parse(path.read_text("utf-8"))
        for name, path in names.items()
        if not name.startswith(EXEMPT)
    }


def strings(tree: ast.Module) -> Iterator[str]:
    """The string constants of a module, without its docstrings."""
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def spelled_in_sql(text: str) -> set[str]:
    """The states that a statement compares or sets in quotes."""
    return set(QUOTED.findall(text)) & STATES if re.search(r"\bstatus\b", text) else set()


def spelled_in_python(tree: ast.Module) -> set[str]:
    """The states that are compared with something's status, or are the default of a column, as strings."""
    found = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.keyword)
            and node.arg == "server_default"
            and isinstance(node.value, ast.Constant)
        ):
            found |= {node.value.value} & STATES
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(isinstance(part, ast.Attribute) and part.attr.endswith("status") for part in sides):
                constants = [c.value for side in sides for c in ast.walk(side) if isinstance(c, ast.Constant)]
                found |= {value for value in constants if isinstance(value, str)} & STATES
    return found


def written(tree: ast.Module) -> set[str]:
    """The tables that a module writes, in text or in Core."""
    tables = {table for text in strings(tree) for table in WRITE.findall(text)}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="insert" | "update" | "delete"), args=[ast.Name(id=name), *_]):
                tables.add(CLASSES.get(name, name))
    return tables


def locked(tree: ast.Module) -> set[str]:
    """The repositories of a unit of work whose rows a module locks."""
    return {
        node.value.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("lock")
        and isinstance(node.value, ast.Attribute)
    }


def test_states_are_spelled_in_one_module() -> None:
    """A status in SQL is a $name, and one in Python a member of an enum: both come from schema/states.py."""
    spelled = {
        name: states
        for name, tree in product().items()
        if (states := spelled_in_python(tree).union(*map(spelled_in_sql, strings(tree))))
    }

    assert spelled == {}


def test_each_table_is_written_by_one_module() -> None:
    """Everything that changes a table stands in one module, or in some of one area that share its columns."""
    writers = defaultdict(set)
    for name, tree in product().items():
        for table in written(tree) & Base.metadata.tables.keys():
            writers[table].add(name)

    assert writers["job"] == {"persistence/jobs/jobs.py"}
    assert {table: names for table, names in writers.items() if len(names) > 1} == SHARED


def test_rows_of_several_tables_are_locked_in_two_modules() -> None:
    """The order of locks is kept by one module for jobs, and by one for discoveries, which lock areas too."""
    lockers = {name for name, tree in product().items() if len(locked(tree) & ORDERED) > 1}

    assert lockers == {"tasks/jobs/locking.py", "tasks/discovery/lock.py"}


@pytest.mark.parametrize(
    ("expression", "module"),
    [
        # Whether the URL has changed by which a job was held; all else compares what gitlabs.py makes of it.
        (
            r"""(?:DISTINCT FROM|=)\s*(?:\w+\.)?"gitlabGraphQLUrl"|"gitlabGraphQLUrl"\s*(?:=|IS (?:NOT )?D|LIKE)""",
            "persistence/jobs/out_of_sync.py",
        ),
        (r"""://\(\[\^/\]\+\)""", "persistence/schema/gitlabs.py"),
        (r"""RECURSIVE\s+family""", "persistence/jobs/subtree.py"),
        (r"""/api/graphql""", "persistence/origin.py"),
    ],
)
def test_an_expression_has_one_module(expression: str, module: str) -> None:
    """The host of a URL and what is below a job are stated once, and no statement compares URLs in their spellings."""
    found = {
        name for name, tree in product().items() if any(re.search(expression, text) for text in strings(tree))
    }

    assert found == {module}


def test_a_gitlab_is_compared_by_one_name() -> None:
    """What is compared asks persistence/schema/gitlabs.py; the parser below it is for what people write."""
    importers = {
        name
        for name, tree in product().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and any(alias.name == "origin_of" for alias in node.names)
    }

    assert importers == {
        "console/commands/accounts.py",
        "persistence/schema/gitlabs.py",
        "persistence/reports/origins.py",
        "persistence/setting_types.py",
        "tasks/contract/payloads.py",
        "tasks/maintenance/gitlab_names.py",
    }


@pytest.mark.parametrize(
    ("source", "states"),
    [
        ("sql(\"UPDATE job SET status = 'queued'\")", {"queued"}),
        ("sql(\"SELECT 1 FROM job WHERE status NOT IN ('failed', 'finished')\")", {"failed", "finished"}),
        ('sql("UPDATE job SET status = $job_queued")', set()),
        ("sql(\"SELECT 'queued'\")", set()),
    ],
)
def test_a_state_in_sql_is_seen(source: str, states: set[str]) -> None:
    """The check sees a state that a statement compares or sets."""
    assert set().union(*map(spelled_in_sql, strings(ast.parse(source)))) == states


@pytest.mark.parametrize(
    ("source", "states"),
    [
        ('job.status == "queued"', {"queued"}),
        ('entry.status in ("completed", "failed")', {"completed", "failed"}),
        ("job.status is JobStatus.QUEUED", set()),
        ('answer.kind == "queued"', set()),
        ('mapped_column(server_default="queued")', {"queued"}),
    ],
)
def test_a_state_in_python_is_seen(source: str, states: set[str]) -> None:
    """The check sees a state that is compared with a status, or is the default of a column."""
    assert spelled_in_python(ast.parse(source)) == states


@pytest.mark.parametrize(
    "source",
    [
        'sql("INSERT INTO job (id) SELECT 1")',
        "update(Job).values(x=1)",
        'sql("WITH x AS (DELETE FROM job WHERE true RETURNING id) SELECT 1")',
    ],
)
def test_a_writer_is_seen(source: str) -> None:
    """The check sees a statement that writes, as text, as a part of another one, or in Core."""
    assert written(ast.parse(source)) == {"job"}


def test_a_lock_is_seen() -> None:
    """The check sees which repositories a module locks."""
    assert locked(ast.parse("uow.entries.lock(ids); uow.jobs.lock_skipping(ids); uow.jobs.find(ids)")) == {
        "entries",
        "jobs",
    }
