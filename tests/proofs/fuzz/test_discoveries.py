"""Whatever an attempt discovers, nothing outside its scope is written, and nothing of another account changes."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proofs.fuzz.discoveries import SCOPE, SCOPE_ID, VICTIM, VICTIM_ID, discoveries, reported_paths
from proofs.fuzz.sandbox import Sandbox, sandbox_of
from support.depth import deep
from support.worlds.world import NOW, World

FUZZED = settings(
    max_examples=2000 if deep() else 25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)

TREE = ("GROUP_PROJECT_DISCOVERY", "groupProjects", "groupSubgroups")
OF_USERS = ("GROUP_PROJECT_DISCOVERY", "users")
COMMANDS = (*TREE, "users", "issues")

PATH_OF = {
    "area": "full_path",
    "area_authorization": "area_id",
    "area_change": "full_path",
    "area_host": "full_path",
    "deferred_job": "full_path",
    "job": "full_path",
    "job_area": "full_path",
}
"""The tables that a discovery writes, and their columns of paths."""

SEGMENT = r"(?!-)(?!\.{1,2}(?:/|$))[A-Za-z0-9_.-]{1,255}(?<!\.git)(?<!\.atom)"
LEGAL = re.compile(rf"{SEGMENT}(?:/{SEGMENT}){{0,20}}")
LEGAL_ID = re.compile(r"gid://gitlab/(Group|Project)/[1-9][0-9]{0,18}")

Row = tuple[str, dict[str, Any]]


class Attempts:
    """An attempt of each command, of the group `team`; and the areas and jobs of another account."""

    def __init__(self, world: World) -> None:
        world.account("other")
        theirs = world.order(account_id="other", command="project", namespace_path=VICTIM, entity_id="42")
        world.submit(theirs, *(world.order(command=c, namespace_path=SCOPE, entity_id="7") for c in COMMANDS))
        world.rows("DELETE FROM area_authorization")
        world.rows("INSERT INTO area_authorization SELECT 'other', full_path FROM area")
        self.crawler = world.crawler(capacity=10)
        world.assign()
        rows = world.rows(
            "SELECT command, crawler_job_id, job.id FROM job_assignment_mapping JOIN job ON job.id = web_app_job_id"
        )
        self.of = {command: (fence, job) for command, fence, job in rows}
        assert set(COMMANDS) <= self.of.keys()
        assert world.rows("SELECT full_path, gitlab_id FROM area ORDER BY 1") == [
            (SCOPE, SCOPE_ID),
            (VICTIM, VICTIM_ID),
        ]

    def frames(self, command: str, found: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
        """A message with these frames of the command's attempt."""
        fence, _ = self.of[command]
        return {
            "frames": [
                {
                    "connection_id": self.crawler.id,
                    "frame": {"type": kind, "timestamp": NOW[:-2] + f"{n}Z", "jobId": fence, "data": data},
                }
                for n, (kind, data) in enumerate(found)
            ]
        }


@pytest.fixture
def attempts(world: World) -> Attempts:
    """The attempts."""
    return Attempts(world)


@pytest.fixture
def sandbox(attempts: Attempts, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """What a discovery does is rolled back."""
    monkeypatch.setenv(
        "CRAWLYARD_CONNECTION_TIMEOUT", "90"
    )  # bounds how long its one transaction may be idle
    world.reload_settings()
    with sandbox_of(world, monkeypatch) as sandbox:
        yield sandbox


def with_paths(rows: set[tuple[str, str]]) -> list[Row]:
    """Return those of the rows that have a path."""
    return [(table, json.loads(row)) for table, row in rows if table in PATH_OF]


def test_nothing_outside_of_its_scope_is_written(sandbox: Sandbox, attempts: Attempts) -> None:
    """Only the group of the order, by the paths at which it was ordered or reported, and users for some commands."""
    applied = 0

    @FUZZED
    @given(st.sampled_from(COMMANDS), discoveries())
    def check(command: str, found: list[tuple[str, dict[str, Any]]]) -> None:
        nonlocal applied
        before = set(sandbox.rows())
        with sandbox.example():
            sandbox.deliver("crawler.frames", attempts.frames(command, found))
            after = set(sandbox.rows())
        _, own = attempts.of[command]
        roots = {path.lower() for path in (SCOPE, *reported_paths(found))}
        for table, row in with_paths(before - after) + with_paths(after - before):
            if table == "job" and row["id"] == own:  # its progress
                continue
            applied += 1
            path = row[PATH_OF[table]]
            is_user = row.get("command") == "users"
            assert command in (OF_USERS if is_user else TREE), (table, row)
            assert LEGAL.fullmatch(path), (table, row)
            assert is_user or any(f"{path.lower()}/".startswith(f"{root}/") for root in roots), (table, row)
            assert table != "area" or LEGAL_ID.fullmatch(row["gitlab_id"]), row
        others = [
            row for row in with_paths(before) if "other" in row[1].values() or VICTIM in row[1].values()
        ]
        assert [row for row in others if row not in with_paths(after)] == []

    check()
    assert applied
