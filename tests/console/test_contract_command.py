"""`crawlyard contract`: the JSON Schemas accept and refuse the same payloads as the tasks."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from console.commands.contract import FRAMES, list_names, schema
from support.command import Run

ULID = "01J8ZQ4Y5T9V3N7M2K6R8W0XCD"
NOW = "2026-05-04T03:02:01Z"


SAMPLES: dict[str, dict[str, Any]] = {
    "jobs.submit": {
        "orders": [
            {
                "account_id": "a", "provider": "gitlab-cloud", "command": "issues", "gitlab_host": "gitlab.example",
                "namespace_path": "group/project", "web_app_job_id": ULID, "tags": ["x"], "metadata": {"a": [1]},
            }
        ]
    },
    "jobs.enqueue": {"job_ids": [ULID]},
    "jobs.cancel": {"account_id": "a", "reason": "no longer"},
    "connections.register": {"connection_id": ULID, "crawler_id": "one", "capacity": 3},
    "connections.heartbeat": {"beats": [{"connection_id": ULID, "active_jobs": [ULID], "system_status": "idle"}]},
    "connections.disconnect": {"connection_id": ULID, "reason": "deploy"},
    "connections.expire_dead": {"as_of": NOW},
    "crawler.frames": {
        "frames": [{"connection_id": ULID, "frame": {"type": "job_request", "timestamp": NOW, "data": {}}}]
    },
    "failures.log": {"errors": [{"job_id": ULID, "error_type": "Odd", "error_message": "what"}]},
    "frame": {
        "type": "job_progress", "timestamp": NOW, "jobId": ULID,
        "data": {"stage": "fetching", "entityType": "issue", "processed": 5, "itemCounts": {"issues": 5}, "new": 1},
    },
}  # fmt: skip


def test_every_schema_is_valid(run: Run) -> None:
    """Every task and the frame have a valid schema of the 2020-12 dialect, whose $id contains the version."""
    output = run("contract")

    assert list(output.json["schemas"]) == list_names()
    for name, found in output.json["schemas"].items():
        Draft202012Validator.check_schema(found)
        assert found["$id"] == f"urn:crawlyard:{output.json['version']}:{name}"


@pytest.mark.parametrize("name", SAMPLES)
def test_a_schema_accepts_what_its_task_accepts(name: str) -> None:
    """A valid payload of the task is valid by its schema."""
    Draft202012Validator(schema(name)).validate(SAMPLES[name])


@pytest.mark.parametrize("name", sorted(set(list_names()) - set(FRAMES)))
def test_a_schema_refuses_unknown_fields(name: str) -> None:
    """An argument that the task does not have is refused."""
    with pytest.raises(ValidationError, match="access_token"):
        Draft202012Validator(schema(name)).validate(SAMPLES.get(name, {}) | {"access_token": "x"})


def test_a_schema_refuses_a_batch_that_is_too_large() -> None:
    """The schema has the same limit on batches as the task."""
    with pytest.raises(ValidationError, match="too long"):
        Draft202012Validator(schema("jobs.enqueue")).validate({"job_ids": ["x"] * 10_001})


def test_schemas_are_written_as_files(run: Run, tmp_path: Path) -> None:
    """--out writes every schema to a file with the name of its task."""
    assert run("contract", "--out", str(tmp_path / "new")).code == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(
        f"{n}.json" for n in list_names()
    )
    assert json.loads((tmp_path / "new" / "frame.json").read_text()) == schema("frame")


def test_a_task_name_selects_one_schema(run: Run) -> None:
    """A known name prints its schema alone; an unknown name is a usage error."""
    assert run("contract", "jobs.submit").json == schema("jobs.submit")
    assert run("contract", "jobs.sumbit").code == 2
