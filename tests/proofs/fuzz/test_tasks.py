"""Every task under payloads that are wrong, huge, deep or strange: each is answered once, and kept with its reason."""

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
    max_examples=1000 if deep() else 12,
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
}
"""For what a task refuses a payload that fits the contract, by the table in docs/contract.md."""


@pytest.fixture
def sandbox(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A world with a job that waits, one that is worked on, and one that has failed, under known ids."""
    monkeypatch.setenv("CRAWLYARD_CONNECTION_TIMEOUT", "90")  # bounds the silence of its one transaction
    world.reload_settings()
    waiting, worked_on, failed = JOBS
    world.deliver("connections.register", connection_id=CONNECTION, capacity=1)
    for job in (failed, worked_on):
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

IDLE = "01ARZ3NDEKTSV4RRFFQ69G5FAE"
"""A connection without work."""

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
"""Two items each, of which each changes a row."""


def fits(kind: TypeAdapter[Any], value: Any) -> bool:
    """Whether the contract allows a value, as it comes off the wire."""
    try:
        kind.validate_python(serialization.loads(serialization.dumps(value)))
    except (ValidationError, RecursionError):
        return False
    return True


@pytest.mark.parametrize("task", CONTRACT)
def test_an_invalid_payload_is_rejected_and_changes_nothing(task: str, sandbox: Sandbox) -> None:
    """The task returns; what does not fit is kept once, named and without its secret, and no other row changes."""

    @FUZZED
    @given(mutated(strategies.payloads(task)).filter(lambda payload: isinstance(payload, dict)))
    def check(payload: Any) -> None:
        before = sandbox.told()
        with sandbox.example():
            sandbox.deliver(task, payload)
            kept = sandbox.rejected()
            after = sandbox.told()
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
    """Around and between bad items, of any kind and number, the good ones do what they do alone."""
    field, item = BATCHES[task]
    bad = mutated(strategies.items(task)).filter(lambda value: not fits(item, value))
    before = sandbox.told()
    with sandbox.example():
        sandbox.deliver(task, {field: GOOD[task]})
        alone = sandbox.told()
    assert len(set(alone) - set(before)) >= len(GOOD[task])

    @FUZZED
    @given(st.lists(bad, min_size=1, max_size=4), st.lists(bad, max_size=2), st.lists(bad, max_size=2))
    def check(first: list[Any], middle: list[Any], last: list[Any]) -> None:
        one, two = GOOD[task]
        with sandbox.example():
            sandbox.deliver(task, {field: [*first, one, *middle, two, *last]})
            assert [row.reason for row in sandbox.rejected()] == ["invalid"] * len(first + middle + last)
            # A bad frame proves life all the same, also of who is not known.
            assert sandbox.told("connection_expired") == alone

    check()


def test_mebibytes_are_stored_truncated(sandbox: Sandbox) -> None:
    """An endless text, list and object beside good frames: each is kept cut, and the good ones are applied."""
    endless = ["x" * MEBIBYTES, [[]] * (MEBIBYTES // 4), {str(n): n for n in range(MEBIBYTES // 20)}]
    with sandbox.example():
        sandbox.deliver("crawler.frames", {"frames": GOOD["crawler.frames"]})
        alone = sandbox.told()

    sandbox.deliver("crawler.frames", {"frames": [*endless, *GOOD["crawler.frames"]]})

    kept = sandbox.rejected()
    assert [row.reason for row in kept] == ["invalid"] * len(endless)
    assert all(len(json.dumps(row.payload, ensure_ascii=False)) <= STORED_BYTES for row in kept)
    assert sandbox.told() == alone


def test_a_batch_with_too_many_items_is_refused_as_a_whole(sandbox: Sandbox) -> None:
    """One row is kept, and nothing is applied of it."""
    before = sandbox.told()

    sandbox.deliver("jobs.enqueue", {"job_ids": JOBS * BATCH_LIMIT})

    assert [row.reason for row in sandbox.rejected()] == ["invalid"]
    assert sandbox.told() == before


@pytest.mark.parametrize("task", CONTRACT)
def test_a_valid_payload_is_accepted_or_refused_with_a_known_reason(task: str, sandbox: Sandbox) -> None:
    """What the JSON Schema of a task allows is applied, or refused for one of the documented reasons."""

    @FUZZED
    @given(strategies.payloads(task))
    def check(payload: Any) -> None:
        with sandbox.example():
            sandbox.deliver(task, payload)
            assert {row.reason for row in sandbox.rejected()} <= REFUSALS.get(task, set()) | {"invalid"}

    check()
