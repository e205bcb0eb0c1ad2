"""Frames are applied under the fence, once, and a bad one never costs the good ones in its message."""

from collections import Counter
from typing import Any

import pytest
from pydantic import TypeAdapter
from sqlalchemy import text
from ulid import ULID

from persistence.db.engine import engine
from support.worlds.world import Crawler, World
from tasks.contract.payloads import SaidFrame

PROGRESS = {"stage": "fetching", "entityType": "issue"}


def job_of(world: World, order: str) -> str:
    """The job of an order."""
    return str(
        world.scalar(
            "SELECT web_app_job_id FROM job_assignment_mapping WHERE crawler_job_id = :order", order=order
        )
    )


def test_a_job_starts_progresses_and_finishes(world: World) -> None:
    """From assignment to completion, one frame per message."""
    crawler, (order,) = world.crawler_with_jobs()
    job_id = job_of(world, order)

    crawler.sends("job_started", order, entityType="project")
    assert world.job(job_id).status == "running"
    crawler.sends("job_progress", order, **PROGRESS, processed=5, total=10, resumeState={"currentPage": 2})
    assert world.job(job_id).progress["completion"] == 0.5
    assert world.job(job_id).resume_state == {"currentPage": 2}
    crawler.sends("job_completed", order, success=True, finalCounts={"issue": 10})

    job = world.job(job_id)
    assert (job.status, job.resume_state, job.progress["counts"]) == ("finished", None, {"issue": 10})
    assert job.started_at <= job.finished_at
    assert world.entry(job_id).status == "completed"
    assert [attempt.status for attempt in world.attempts(job_id)] == ["completed"]
    assert crawler.row().active_jobs == []
    assert [e.payload["status"] for e in world.events("job_updated")] == ["running", "finished"]
    assert world.errors(job_id) == []


def test_frames_of_one_attempt_in_one_message_are_applied_in_order(world: World) -> None:
    """Frames after the terminal one are stale."""
    crawler, (order,) = world.crawler_with_jobs()

    world.sends(
        crawler.frame("job_started", order),
        crawler.frame("job_progress", order, **PROGRESS, processed=1, total=4),
        crawler.frame("job_completed", order),
        crawler.frame("job_progress", order, **PROGRESS, processed=3, total=4),
        crawler.frame("job_failed", order, error="late", isRecoverable=True),
    )

    (attempt,) = world.attempts(job_of(world, order))
    assert (attempt.status, attempt.stale_words) == ("completed", 2)
    assert world.job(attempt.web_app_job_id).progress["counts"] == {"issue": 1}
    assert world.errors(attempt.web_app_job_id) == []


def test_each_frame_of_a_message_is_validated_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even in a message with a discovery, which is applied in several transactions."""
    crawler, (order,) = world.crawler_with_jobs()
    validated: Counter[int] = Counter()

    def counted(validate: Any) -> Any:
        def count(self: Any, item: Any, *args: Any, **options: Any) -> Any:
            validated[id(item)] += 1
            return validate(self, item, *args, **options)

        return count

    monkeypatch.setattr(TypeAdapter, "validate_python", counted(TypeAdapter.validate_python))
    monkeypatch.setattr(SaidFrame, "model_validate", None)
    frames = [
        crawler.frame("job_started", order),
        crawler.frame("discovery", order, entityType="groups", entities=[]),
        crawler.frame("heartbeat"),
        {"connection_id": crawler.id, "frame": "no frame"},
    ]

    world.sends(*frames)

    assert [validated[id(frame)] for frame in frames] == [1] * len(frames)
    assert world.rejections() == [("crawler.frames", "invalid")]
    assert world.job(job_of(world, order)).progress["discovery"]["frames"] == 1


def test_a_job_completed_without_a_start_is_accepted(world: World) -> None:
    """The frame that reported the start may have been lost."""
    crawler, (order,) = world.crawler_with_jobs()

    crawler.sends("job_completed", order)

    job = world.job(job_of(world, order))
    assert job.status == "finished"
    assert job.started_at is not None


def test_a_recoverable_failure_requeues_the_job_with_backoff(world: World) -> None:
    """It counts one attempt, keeps resume_state for the next one, and logs the error without its secrets."""
    crawler, (order,) = world.crawler_with_jobs()
    job_id = job_of(world, order)

    crawler.fails(
        order,
        error="GET https://git:glpat-abcdefghij0123456789@gitlab.example.org failed",
        errorType="HttpError",
        resumeState={"currentPage": 7, "entityType": "issue"},
        stackTrace="at crawl (private_token=topsecret)",
        context={"accessToken": "topsecret", "page": 7},
    )

    job, entry, (error,) = world.job(job_id), world.entry(job_id), world.errors(job_id)
    assert (job.status, job.resume_state) == ("queued", {"currentPage": 7, "entityType": "issue"})
    assert (entry.status, entry.attempts, entry.ready) == ("pending", 1, False)
    assert 0.4 < (entry.scheduled_at - error.timestamp).total_seconds() < 0.7
    assert (error.error_type, error.retry_count, error.is_recoverable) == ("HttpError", 1, True)
    assert "gitlab.example.org failed" in error.error_message
    assert error.context["page"] == 7
    for stored_text in (error.error_message, error.stack_trace, str(error.context)):
        assert "glpat-abcdefghij0123456789" not in stored_text
        assert "topsecret" not in stored_text


def test_an_error_names_its_attempt_whatever_the_size_of_its_context(world: World) -> None:
    """A context that is too long is cut, and cannot name another attempt."""
    crawler, (order,) = world.crawler_with_jobs()

    crawler.fails(order, context={"crawler_job_id": "another's", "body": "x " * 60_000})

    (error,) = world.errors(job_of(world, order))
    assert (error.context["crawler_job_id"], error.context["connection_id"]) == (order, crawler.id)
    assert error.context["cut"].startswith('{"crawler_job_id": "another')
    assert world.scalar("SELECT octet_length(context::text) FROM job_error_log") <= 64 * 1024


def test_the_last_attempt_fails_the_job(world: World) -> None:
    """A job may fail three times."""
    (job_id,) = world.jobs(1)
    crawler = world.crawler()
    for _ in range(3):
        world.rows("UPDATE job_queue SET scheduled_at = clock_timestamp() WHERE status = 'pending'")
        world.assign()
        (order,) = crawler.orders()
        crawler.fails(order)

    assert world.job(job_id).status == "failed"
    assert world.job(job_id).finished_at is not None
    assert (world.entry(job_id).status, world.entry(job_id).attempts) == ("failed", 3)
    assert [error.retry_count for error in world.errors(job_id)] == [1, 2, 3]


def test_a_permanent_failure_fails_the_job_at_once(world: World) -> None:
    """A failure with isRecoverable=false counts one attempt."""
    crawler, (order,) = world.crawler_with_jobs()

    crawler.fails(order, recoverable=False)

    job_id = job_of(world, order)
    assert world.job(job_id).status == "failed"
    assert world.entry(job_id).attempts == 1


def test_an_unsuccessful_completion_is_a_recoverable_failure(world: World) -> None:
    """A job_completed with success=false logs an error and queues the job again."""
    crawler, (order,) = world.crawler_with_jobs()

    crawler.sends("job_completed", order, success=False, message="half of it was missing")

    job_id = job_of(world, order)
    assert world.job(job_id).status == "queued"
    assert [(e.error_type, e.error_message) for e in world.errors(job_id)] == [
        ("CrawlUnsuccessful", "half of it was missing")
    ]


def test_the_stage_of_a_progress_is_never_the_end(world: World) -> None:
    """The stages completed and failed are those of an entity, not of the job."""
    crawler, (order,) = world.crawler_with_jobs()

    crawler.sends("job_progress", order, stage="failed", entityType="issue", processed=1)

    assert world.job(job_of(world, order)).status == "running"


def test_progress_never_goes_backwards_within_an_attempt(world: World) -> None:
    """A late frame lowers neither a count nor the completion."""
    crawler, (order,) = world.crawler_with_jobs()
    crawler.sends("job_progress", order, **PROGRESS, processed=8, total=10)
    crawler.sends("job_progress", order, **PROGRESS, processed=2, total=10)

    progress = world.job(job_of(world, order)).progress
    assert (progress["completion"], progress["counts"]) == (0.8, {"issue": 8})


def expired(world: World) -> tuple[Crawler, str, str]:
    """A crawler that fell silent, its old order, and the order of another crawler for the same job."""
    crawler, (old,) = world.crawler_with_jobs()
    crawler.silent_for(60)
    world.sweep()
    other = world.crawler(capacity=1)
    world.assign()
    (new,) = other.orders()
    return crawler, old, new


FRAMES = {
    "job_started": {},
    "job_progress": {**PROGRESS, "processed": 3, "total": 4, "resumeState": {"currentPage": 3}},
    "job_completed": {"finalCounts": {"issue": 4}},
    "job_failed": {"error": "it broke", "isRecoverable": False},
}


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_of_an_expired_attempt_changes_nothing(world: World, kind: str) -> None:
    """It is counted as stale on its own attempt, and the new attempt continues."""
    crawler, old, new = expired(world)
    before = world.snapshot()

    crawler.sends(kind, old, **FRAMES[kind])

    after = world.snapshot()
    changed = {table for table in before if before[table] != after[table]}
    assert changed == {"job_assignment_mapping", "dispatch_event"}  # the count, and connection_expired
    assert (
        world.scalar("SELECT stale_words FROM job_assignment_mapping WHERE crawler_job_id = :o", o=old) == 1
    )
    assert (
        world.scalar("SELECT status FROM job_assignment_mapping WHERE crawler_job_id = :o", o=new)
        == "assigned"
    )


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_of_another_connection_changes_nothing(world: World, kind: str) -> None:
    """The fence belongs to the connection that got the job, even if a live one knows the crawler_job_id."""
    _, (order,) = world.crawler_with_jobs()
    stranger = world.crawler()
    before = world.snapshot()

    stranger.sends(kind, order, **FRAMES[kind])

    after = world.snapshot()
    assert {table for table in before if before[table] != after[table]} == {"job_assignment_mapping"}
    assert world.scalar("SELECT stale_words FROM job_assignment_mapping") == 1
    assert world.scalar("SELECT status FROM job_assignment_mapping") == "assigned"


def test_a_completion_blocked_by_the_expiry_of_its_attempt_is_stale(world: World) -> None:
    """
    The fence locks the attempt: the completion waits for the row that the expiry has locked.

    Merely joining the row would not be enough here: when the completion arrives, the attempt is closed but not
    committed. The expiry locks nothing but the attempt, so only the fence can make the completion wait.
    """
    crawler, (order,) = world.crawler_with_jobs()
    job_id = job_of(world, order)
    with engine().connect() as expiry:
        expiry.execute(text("UPDATE job_assignment_mapping SET status = 'failed', completed_at = now()"))
        late = world.in_thread(lambda: crawler.sends("job_completed", order))
        world.wait_for_lock_waiter()
        expiry.commit()
    late.join()

    assert world.job(job_id).status == "queued"
    assert world.entry(job_id).status == "processing"
    assert world.scalar("SELECT stale_words FROM job_assignment_mapping") == 1


def test_an_unknown_crawler_job_id_is_rejected(world: World) -> None:
    """The frame is kept as rejected, and the good frames in the message are applied."""
    crawler, (order,) = world.crawler_with_jobs()

    world.sends(crawler.frame("job_completed", "project_42"), crawler.frame("job_completed", order))

    assert world.rejections() == [("crawler.frames", "unknown_assignment")]
    assert world.job(job_of(world, order)).status == "finished"


def test_every_frame_with_an_unknown_crawler_job_id_is_rejected(world: World) -> None:
    """Even frames after the terminal one, which would be stale on an attempt that exists."""
    crawler = world.crawler()

    world.sends(
        crawler.frame("job_failed", "never given", error="it broke", isRecoverable=True),
        crawler.frame("job_completed", "never given"),
        crawler.frame("discovery", "never given", entityType="group", entities=[]),
    )

    assert world.rejections() == [("crawler.frames", "unknown_assignment")] * 3


def test_bad_frames_are_rejected_and_the_good_ones_applied(world: World) -> None:
    """Each bad item is rejected alone, and proves that its connection is alive if it names one."""
    crawler, (order,) = world.crawler_with_jobs()
    crawler.silent_for(60)
    bad = [
        None,
        5,
        {"frame": {}},
        {"connection_id": crawler.id},
        {"connection_id": "no ulid", "frame": crawler.frame("heartbeat")["frame"]},
        crawler.frame("no_such_type"),
        crawler.frame("job_progress", order, stage="fetching", entityType="a\x00b", processed=1),
        crawler.frame("job_progress", order, stage="fetching", entityType="\ud800", processed=1),
        crawler.frame("job_progress", order, **PROGRESS, processed=2**70),
        crawler.frame("job_progress", order, **PROGRESS, processed=1, estimatedTimeRemaining=float("nan")),
        crawler.frame("job_failed", order, error="x" * 30_000, isRecoverable=True),
        crawler.frame("job_failed", order, error="x", isRecoverable=True, context={"deep": _deep(100)}),
        crawler.frame("job_failed", order, error="x"),
        {"connection_id": crawler.id, "frame": {"type": "heartbeat", "timestamp": "yesterday", "data": {}}},
    ]

    world.sends(*bad, crawler.frame("job_started", order))

    assert world.rejections() == [("crawler.frames", "invalid")] * len(bad)
    assert world.job(job_of(world, order)).status == "running"
    assert world.scalar(
        "SELECT clock_timestamp() - last_heartbeat < interval '5 seconds' FROM socket_connection"
    )


def _deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def test_a_message_delivered_twice_has_the_effect_of_one(world: World) -> None:
    """The second delivery adds nothing, whatever the frames, stale and bad ones included."""
    crawler, (one, two, three) = world.crawler_with_jobs(3)
    message = str(ULID())
    frames = [
        crawler.frame("job_started", one),
        crawler.frame("job_progress", one, **PROGRESS, processed=1, total=2),
        crawler.frame("job_completed", two),
        crawler.frame("job_failed", three, error="it broke", isRecoverable=True),
        crawler.frame("job_completed", "never given"),
        crawler.frame("heartbeat", activeJobs=[one]),
        {"bad": True},
    ]

    world.sends(*frames, message=message)
    once = world.snapshot()
    world.sends(*frames, message=message)

    assert world.snapshot() == once


def test_two_concurrent_deliveries_are_processed_once(world: World) -> None:
    """The second delivery waits for the first, and then changes nothing."""
    crawler, (order,) = world.crawler_with_jobs()
    message = str(ULID())
    frame = crawler.frame("job_failed", order, error="it broke", isRecoverable=True)

    threads = [world.in_thread(lambda: world.sends(frame, message=message)) for _ in range(4)]
    for thread in threads:
        thread.join()

    job_id = job_of(world, order)
    assert world.entry(job_id).attempts == 1
    assert len(world.errors(job_id)) == 1
    assert world.scalar("SELECT stale_words FROM job_assignment_mapping") == 0


def test_a_completion_does_not_undo_a_cancellation_of_the_web_app(world: World) -> None:
    """The status of the web app wins; the attempt and the entry still end."""
    crawler, (order,) = world.crawler_with_jobs()
    job_id = job_of(world, order)
    world.rows("UPDATE job SET status = 'cancelled'")

    crawler.sends("job_completed", order)

    assert world.job(job_id).status == "cancelled"
    assert world.entry(job_id).status == "completed"
    assert crawler.orders() == []


def test_progress_clears_losses(world: World) -> None:
    """Only losses in a row count."""
    crawler, (order,) = world.crawler_with_jobs()
    world.rows("UPDATE job_queue SET losses = 1")

    crawler.sends("job_progress", order, **PROGRESS, processed=1)

    assert world.entry(job_of(world, order)).losses == 0


def test_a_job_request_sets_the_capacity_and_publishes_a_round(world: World) -> None:
    """Without a capacity in the frame, it is five."""
    crawler = world.crawler(capacity=1)
    world.published.messages.clear()

    crawler.sends("job_request", capacity=9)
    assert crawler.row().capacity == 9
    crawler.sends("job_request")
    assert crawler.row().capacity == 5
    assert world.published.of("jobs.assign") == [{}, {}]


def test_a_crawler_that_ended_a_job_has_one_more_free_slot(world: World) -> None:
    """What the crawler reported before does not keep the slot until its next heartbeat."""
    crawler, (one, two) = world.crawler_with_jobs(2)
    crawler.sends("heartbeat", activeJobs=2)
    crawler.sends("job_completed", one)
    assert crawler.row().reported == 1
    crawler.sends("heartbeat", activeJobs=[two])
    crawler.sends("job_completed", two)
    assert (crawler.row().reported, crawler.row().reported_jobs) == (0, [])


def test_a_heartbeat_of_a_closed_or_unknown_connection_changes_nothing(world: World) -> None:
    """An event asks it to register again, under a new id if it was closed."""
    crawler = world.crawler()
    crawler.silent_for(60)
    world.sweep()
    unknown = str(ULID())

    world.deliver("connections.heartbeat", beats=[{"connection_id": crawler.id}, {"connection_id": unknown}])

    assert crawler.row().is_active is False
    assert world.scalar("SELECT count(*) FROM socket_connection") == 1
    assert {e.connection_id: e.payload["known"] for e in world.events("connection_expired")} == {
        crawler.id: True,
        unknown: False,
    }


def test_a_heartbeat_stores_what_it_reports(world: World) -> None:
    """The wire's `processing` is stored as `crawling`; a field that is not reported stays as it is."""
    crawler = world.crawler(capacity=3)

    world.deliver(
        "connections.heartbeat",
        beats=[
            {"connection_id": crawler.id, "system_status": "processing", "active_jobs": 2},
            {"connection_id": crawler.id, "capacity": 8},
            {"connection_id": crawler.id, "active_jobs": -1},
        ],
    )

    row = crawler.row()
    assert (row.system_status, row.reported, row.reported_jobs, row.capacity) == ("crawling", 2, None, 8)
    assert world.rejections() == [("connections.heartbeat", "invalid")]
