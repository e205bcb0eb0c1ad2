"""`failures.log` stores reported errors of jobs, redacted, and changes nothing else."""

from typing import Any

import pytest
from ulid import ULID

from support.worlds.world import World

TOKEN = "glpat-zyxwvutsrq9876543210"


def failure(**changes: Any) -> dict[str, Any]:
    """An error as a gateway reports it."""
    return {"error_type": "GatewayError", "error_message": "the line went dead"} | changes


def log(world: World, *failures: object, message: str | None = None) -> None:
    """Deliver failures.log."""
    world.deliver("failures.log", message, errors=list(failures))


def test_an_error_of_a_job_is_logged(world: World) -> None:
    """With all its fields, and with an event for the readers of its account."""
    (job_id,) = world.jobs(1)

    log(world, failure(job_id=job_id, stack_trace="at line 3", context={"page": 7}, is_recoverable=False))

    (error,) = world.errors(job_id)
    assert (error.error_type, error.error_message, error.stack_trace) == (
        "GatewayError",
        "the line went dead",
        "at line 3",
    )
    assert (error.context, error.is_recoverable, error.resolution) == ({"page": 7}, False, None)
    assert [(e.job_id, e.account_id, e.payload) for e in world.events("error_logged")] == [
        (job_id, "acc", {"error_type": "GatewayError", "is_recoverable": False})
    ]


@pytest.mark.parametrize("closed", [False, True], ids=["live", "closed"])
def test_an_error_of_an_attempt_is_logged_for_its_job(world: World, closed: bool) -> None:  # noqa: FBT001
    """Found by the crawler_job_id, also after the attempt has ended."""
    crawler, (order,) = world.crawler_with_jobs()
    if closed:
        crawler.sends("job_completed", order)

    log(world, failure(crawler_job_id=order))

    (job_id,) = [id_ for (id_,) in world.rows("SELECT id FROM job")]
    assert [(e.error_type, e.is_recoverable) for e in world.errors(job_id)] == [("GatewayError", True)]


def test_an_error_of_an_unknown_job_is_rejected_alone(world: World) -> None:
    """The valid errors beside it are stored, in order."""
    (job_id,) = world.jobs(1)

    log(
        world,
        failure(job_id=job_id, error_message="first"),
        failure(job_id=str(ULID())),
        failure(crawler_job_id=str(ULID())),
        failure(job_id=job_id, error_message="second"),
    )

    assert [e.error_message for e in world.errors(job_id)] == ["first", "second"]
    assert world.rejections() == [("failures.log", "unknown_job")] * 2
    assert len(world.events("error_logged")) == 2


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"job_id": "{job}", "crawler_job_id": "x"},
        {"job_id": "{job}", "error_type": ""},
        {"job_id": "{job}", "error_message": None},
        {"job_id": "{job}", "error_message": "NUL \x00"},
        {"job_id": "{job}", "error_message": "x" * 20_001},
        {"job_id": "{job}", "context": {"n": float("inf")}},
        {"job_id": "{job}", "severity": "high"},
    ],
)
def test_a_bad_item_is_rejected_alone(world: World, bad: dict[str, Any]) -> None:
    """The valid error beside it is stored."""
    (job_id,) = world.jobs(1)
    bad = bad | {"job_id": job_id} if bad.get("job_id") else bad

    log(world, failure(**bad), failure(job_id=job_id))

    assert [e.error_message for e in world.errors(job_id)] == ["the line went dead"]
    assert world.rejections() == [("failures.log", "invalid")]


def test_secrets_are_not_logged(world: World) -> None:
    """Message, trace, type and context of an error are redacted, also in its event and if it is rejected."""
    (job_id,) = world.jobs(1)
    item = failure(
        error_message=f"GET https://oauth2:{TOKEN}@gitlab.example.org: 401",
        stack_trace=f"Authorization: Bearer {TOKEN}",
        context={"headers": {"PRIVATE-TOKEN": TOKEN}, "accessToken": "opaque-value", "page": 7},
        error_type=f"Error {TOKEN}",
    )

    log(world, item | {"job_id": job_id}, item | {"job_id": str(ULID())})

    (error,) = world.errors(job_id)
    assert error.context["page"] == 7
    for table in ("job_error_log", "dispatch_event", "rejected_message"):
        stored = world.scalar(f"SELECT string_agg(r::text, ' ') FROM {table} r")
        assert TOKEN not in stored
        assert "opaque-value" not in stored


@pytest.mark.parametrize("stage", ["pending", "live", "ended"])
def test_logging_an_error_changes_nothing_else(world: World, stage: str) -> None:
    """The job, entry, attempt, connection and counts are unchanged, and nothing is published."""
    (job_id,) = world.jobs(1)
    if stage != "pending":
        crawler = world.crawler()
        world.assign()
        if stage == "ended":
            crawler.fails(*crawler.orders(), recoverable=False)
    before = world.snapshot()
    world.published.messages.clear()

    log(world, failure(job_id=job_id, is_recoverable=False))

    after = world.snapshot()
    changed = {table for table, rows in after.items() if rows != before[table]}
    assert changed == {"job_error_log", "dispatch_event"}
    assert len(after["job_error_log"]) == len(before["job_error_log"]) + 1
    assert len(after["dispatch_event"]) == len(before["dispatch_event"]) + 1
    assert world.published.messages == []


def test_errors_delivered_twice_are_logged_once(world: World) -> None:
    """The same error in another message is another error."""
    (job_id,) = world.jobs(1)
    message = str(ULID())
    log(world, failure(job_id=job_id), failure(job_id="nobody's"), message=message)
    before = world.snapshot()

    log(world, failure(job_id=job_id), failure(job_id="nobody's"), message=message)
    assert world.snapshot() == before

    log(world, failure(job_id=job_id))
    assert len(world.errors(job_id)) == 2
