"""Every task with payloads that are wrong, huge, deep or strange: each is rejected once, with its reason."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from ulid import ULID

from persistence.sanitize.json_values import STORED_BYTES
from proofs.fuzz import strategies
from proofs.fuzz.mutations import SECRET, mutated
from proofs.fuzz.sandbox import Sandbox, sandbox_of
from proofs.fuzz.strategies import ACCOUNT, ATTEMPT, CONNECTION, JOBS
from support.depth import deep
from support.worlds.world import NOW, World
from tasks.contract.payloads import CONTRACT
from tasks.contract.types import BATCH_LIMIT
from tasks.runtime.replay import BATCHES
from tasks.worker import serialization

FUZZED = settings(
    max_examples=1000 if deep() else 6,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)

REFUSALS = {
    "jobs.submit": {"unknown_account", "unknown_user", "collides_with_another_host", "refused_by_database"},
    "jobs.enqueue": {"own_command"},
    "jobs.pause": {"unknown_account"},
    "credentials.renewed": {"unknown_account"},
    "connections.register": {"connection_closed"},
    "connections.expire_dead": {"as_of_in_the_future"},
    "crawler.frames": {
        "unknown_assignment",
        "contradicts_another",
        "area_of_another_host",
        "refused_by_database",
    },
    "failures.log": {"unknown_job", "refused_by_database"},
    "areas.decide": {"unknown_area_change"},
}
"""The reasons for which a task rejects a valid payload, from the table in docs/contract.md."""


@pytest.fixture
def sandbox(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A state with a waiting, a running and a failed job under known ids."""
    monkeypatch.setenv(
        "CRAWLYARD_CONNECTION_TIMEOUT", "90"
    )  # bounds how long its one transaction may be idle
    world.reload_settings()
    waiting, running, failed = JOBS
    world.deliver("connections.register", connection_id=CONNECTION, capacity=1)
    for job in (failed, running):
        world.submit(world.order(web_app_job_id=job, namespace_path=f"group/{job}"))
        world.assign()
        world.rows(
            "UPDATE job_assignment_mapping SET crawler_job_id = :f WHERE completed_at IS NULL", f=ATTEMPT
        )
        world.rows(
            "UPDATE socket_connection SET active_jobs = jsonb_build_array(CAST(:f AS text))", f=ATTEMPT
        )
        if job == failed:
            frame = {"type": "job_failed", "timestamp": NOW, "jobId": ATTEMPT}
            frame["data"] = {"error": "it broke", "isRecoverable": False}
            world.sends({"connection_id": CONNECTION, "frame": frame})
            world.rows("UPDATE job_assignment_mapping SET crawler_job_id = :f", f=str(ULID()))
    world.submit(world.order(web_app_job_id=waiting, namespace_path="group/project"))
    world.deliver("connections.register", connection_id=IDLE, capacity=0)
    for job in GOOD["jobs.enqueue"]:
        world.insert_job(id=job)
    world.published.messages.clear()
    with sandbox_of(world, monkeypatch) as sandbox:
        yield sandbox


MEBIBYTES = (10 if deep() else 2) * 2**20

LISTS = 300_000
"""Of the 1,000,000 values that a message may have, 600,000."""

IDLE = "01ARZ3NDEKTSV4RRFFQ69G5FAE"
"""A connection without jobs."""

PROGRESS = {"stage": "fetching", "entityType": "issue", "processed": 7, "total": 9}

GOOD: dict[str, list[Any]] = {
    "jobs.submit": [
        {
            "account_id": ACCOUNT,
            "provider": "gitlab-cloud",
            "gitlab_host": "x",
            "command": "users",
            "web_app_job_id": job,
        }
        for job in ("good-1", "good-2")
    ],
    "jobs.enqueue": ["job-of-the-web-app-1", "job-of-the-web-app-2"],
    "connections.attach": [
        {
            "connection_id": f"01ARZ3NDEKTSV4RRFFQ69G5FB{n}",
            "n": n,
            "link": "l",
            "gateway": "g",
            "session_hash": "0" * 64,
        }
        for n in (1, 2)
    ],
    "connections.heartbeat": [
        {"connection_id": CONNECTION, "capacity": 3},
        {"connection_id": IDLE, "capacity": 4},
    ],
    "crawler.frames": [
        {
            "connection_id": CONNECTION,
            "frame": {"type": kind, "timestamp": NOW, "jobId": ATTEMPT, "data": data},
        }
        for kind, data in (("job_started", {}), ("job_progress", PROGRESS))
    ],
    "failures.log": [{"job_id": job, "error_type": "E", "error_message": "m"} for job in JOBS[:2]],
}
"""Two items for each task; each item changes a row."""


def fits(kind: TypeAdapter[Any], value: Any) -> bool:
    """Return True if the contract allows a value as decoded from a message."""
    try:
        kind.validate_python(serialization.loads(serialization.dumps(value)))
    except (ValidationError, RecursionError):
        return False
    return True


@pytest.mark.parametrize("task", CONTRACT)
def test_an_invalid_payload_is_rejected_and_changes_nothing(task: str, sandbox: Sandbox) -> None:
    """An invalid payload is kept once, with its reason and without its secret, and changes no other row."""

    @FUZZED
    @given(mutated(strategies.payloads(task)).filter(lambda payload: isinstance(payload, dict)))
    def check(payload: Any) -> None:
        before = sandbox.rows()
        with sandbox.example():
            sandbox.deliver(task, payload)
            kept = sandbox.rejected()
            after = sandbox.rows()
        assert {row.task for row in kept} <= {task}
        assert {row.reason for row in kept} <= REFUSALS.get(task, set()) | {"invalid"}
        assert SECRET not in json.dumps([list(row) for row in kept], default=str)
        if not fits(TypeAdapter(CONTRACT[task]), payload):
            assert [row.reason for row in kept] == ["invalid"]
            assert kept[0].detail
            assert after == before

    check()


@pytest.mark.parametrize("task", BATCHES)
def test_a_bad_item_does_not_affect_its_neighbours(task: str, sandbox: Sandbox) -> None:
    """Good items have the same effect alone and among bad items of any kind and number."""
    field, item = BATCHES[task]
    bad = mutated(strategies.items(task)).filter(lambda value: not fits(item, value))
    before = sandbox.rows()
    with sandbox.example():
        sandbox.deliver(task, {field: GOOD[task]})
        alone = sandbox.rows()
    assert len(set(alone) - set(before)) >= len(GOOD[task])

    @FUZZED
    @given(st.lists(bad, min_size=1, max_size=4), st.lists(bad, max_size=2), st.lists(bad, max_size=2))
    def check(first: list[Any], middle: list[Any], last: list[Any]) -> None:
        one, two = GOOD[task]
        with sandbox.example():
            sandbox.deliver(task, {field: [*first, one, *middle, two, *last]})
            assert [row.reason for row in sandbox.rejected()] == ["invalid"] * len(first + middle + last)
            # A bad frame is a sign of life too; of an unknown connection it leaves an event.
            assert sandbox.rows("connection_expired") == alone

    check()


def test_mebibytes_are_stored_truncated(sandbox: Sandbox) -> None:
    """A huge text, list and object are kept truncated, and the good frames beside them are applied."""
    huge = ["x" * MEBIBYTES, [[]] * LISTS, {str(n): n for n in range(MEBIBYTES // 20)}]
    with sandbox.example():
        sandbox.deliver("crawler.frames", {"frames": GOOD["crawler.frames"]})
        alone = sandbox.rows()

    sandbox.deliver("crawler.frames", {"frames": [*huge, *GOOD["crawler.frames"]]})

    kept = sandbox.rejected()
    assert [row.reason for row in kept] == ["invalid"] * len(huge)
    assert all(len(json.dumps(row.payload, ensure_ascii=False)) <= STORED_BYTES for row in kept)
    assert sandbox.rows() == alone


def test_a_batch_with_too_many_items_is_refused_as_a_whole(sandbox: Sandbox) -> None:
    """A batch that is too long leaves one rejected message, and none of its items is applied."""
    before = sandbox.rows()

    sandbox.deliver("jobs.enqueue", {"job_ids": JOBS * BATCH_LIMIT})

    assert [row.reason for row in sandbox.rejected()] == ["invalid"]
    assert sandbox.rows() == before


@pytest.mark.parametrize("task", CONTRACT)
def test_a_valid_payload_is_accepted_or_refused_with_a_known_reason(task: str, sandbox: Sandbox) -> None:
    """A payload that fits the JSON Schema of a task is applied, or rejected for a documented reason."""

    @FUZZED
    @given(strategies.payloads(task))
    def check(payload: Any) -> None:
        with sandbox.example():
            sandbox.deliver(task, payload)
            assert {row.reason for row in sandbox.rejected()} <= REFUSALS.get(task, set()) | {"invalid"}

    check()
