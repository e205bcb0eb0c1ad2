"""jobs.retry: the selected failed jobs continue where they were, with all counters at 0."""

from datetime import timedelta
from typing import Any

import pytest
from ulid import ULID

from support.worlds.stages import STAGES, at_every_stage, stand
from support.worlds.world import World
from tasks.jobs import selections
from tasks.jobs.locking import lock_jobs


def retry(world: World, message: str | None = None, **selection: Any) -> None:
    """Deliver jobs.retry."""
    world.deliver("jobs.retry", message, **selection)


def failed(world: World, count: int, **order: Any) -> list[str]:
    """Jobs that have failed for good, after one attempt each."""
    ids = world.jobs(count, **order)
    crawler = world.crawler(capacity=count)
    world.assign()
    for order_ in crawler.orders():
        crawler.fails(order_, recoverable=False, resumeState={"currentPage": 3})
    world.deliver("connections.disconnect", connection_id=crawler.id)
    assert world.rows("SELECT id FROM job WHERE id = ANY (:ids) AND status <> 'failed'", ids=ids) == []
    return ids


def age(world: World, job_id: str, hours: int) -> None:
    """Make the job have failed this long ago."""
    world.rows(
        "UPDATE job_queue SET settled_at = now() - make_interval(hours => :h) WHERE web_app_job_id = :id",
        h=hours,
        id=job_id,
    )


def statuses(world: World, *job_ids: str) -> list[str]:
    """The statuses of these jobs."""
    return [world.job(job_id).status for job_id in job_ids]


def test_only_failed_jobs_are_retried(world: World) -> None:
    """Neither an expired credential nor a cancellation is a failure; a running job continues."""
    jobs = at_every_stage(world)
    events_before = len(world.events("job_updated"))

    retry(world, job_ids=[*jobs.values(), str(ULID())])

    expected = STAGES | {"failed": ("queued", "pending", False)}
    assert {stage: stand(world, job_id) for stage, job_id in jobs.items()} == expected
    assert [(e.job_id, e.payload) for e in world.events("job_updated")[events_before:]] == [
        (jobs["failed"], {"status": "queued"})
    ]
    assert world.published.messages == [("jobs.assign", {})]


def test_a_retried_job_resumes_where_it_was(world: World) -> None:
    """It is due at once, with all counters at 0; its errors are kept."""
    (job_id,) = failed(world, 1)
    world.rows(
        "UPDATE job_queue SET losses = 3, goodbyes = 2, ready = false, scheduled_at = now() + interval '1 day'"
    )

    retry(world, job_ids=[job_id])

    entry, job = world.entry(job_id), world.job(job_id)
    assert (entry.attempts, entry.losses, entry.goodbyes, entry.error) == (0, 0, 0, None)
    assert (entry.ready, entry.scheduled_at <= world.now(), entry.settled_at) == (True, True, None)
    assert (job.status, job.finished_at, job.resume_state) == ("queued", None, {"currentPage": 3})
    assert len(world.errors(job_id)) == 1
    crawler = world.crawler()
    world.assign()
    assert len(crawler.orders()) == 1


def test_a_retried_job_without_an_entry_gets_one(world: World) -> None:
    """The entry was cleaned up, or the web app failed the job before it was queued."""
    job_id = world.insert_job(status="failed")

    retry(world, job_ids=[job_id])

    assert stand(world, job_id) == ("queued", "pending", False)


def test_a_job_failed_by_the_web_app_during_its_attempt_restarts(world: World) -> None:
    """Its attempt is closed, so that no two crawlers work on one job."""
    crawler, _ = world.crawler_with_jobs()
    job_id = world.scalar("SELECT id FROM job")
    world.rows("UPDATE job SET status = 'failed'")

    retry(world, job_ids=[job_id])

    assert (stand(world, job_id), crawler.orders()) == (("queued", "pending", False), [])
    assert [a.status for a in world.attempts(job_id)] == ["cancelled"]


def test_retry_can_be_limited_to_recent_failures(world: World) -> None:
    """failed_after is the earlier bound, failed_before the later one; both together are a window."""
    old, middle, young = failed(world, 3)
    for job_id, hours in ((old, 30), (middle, 20), (young, 10)):
        age(world, job_id, hours)
    now = world.now()

    def at(hours: int) -> str:
        return (now - timedelta(hours=hours)).isoformat()

    retry(world, account_id="acc", failed_after=at(15))
    assert statuses(world, old, middle, young) == ["failed", "failed", "queued"]
    retry(world, account_id="acc", failed_before=at(25))
    assert statuses(world, old, middle, young) == ["queued", "failed", "queued"]
    retry(world, account_id="acc", failed_after=at(15), failed_before=at(12))
    assert statuses(world, old, middle, young) == ["queued", "failed", "queued"]
    retry(world, account_id="acc", failed_after=at(25), failed_before=at(15))
    assert statuses(world, old, middle, young) == ["queued", "queued", "queued"]


def test_the_failure_time_of_a_job_without_an_entry_is_its_finish_time(world: World) -> None:
    """A job without any time of failure is selected by no time."""
    now = world.now()
    old, young = (
        world.insert_job(status="failed", finished_at=now - timedelta(hours=hours)) for hours in (2, 0)
    )
    unknown = world.insert_job(status="failed")

    retry(world, account_id="acc", failed_after=(now - timedelta(hours=1)).isoformat())

    assert statuses(world, old, young, unknown) == ["failed", "queued", "failed"]


def test_an_error_group_is_retried(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failed job that ever had this error is retried once, within the given times if there are any."""
    monkeypatch.setattr(selections, "CHUNK_JOBS", 2)
    meant, old, other, finished = failed(world, 4)
    more = failed(world, 3)
    for job_id in (meant, meant, old, finished, *more):
        world.rows(
            "INSERT INTO job_error_log (id, job_id, error_type, error_message, fingerprint)"
            " VALUES (:id, :job, 'HTTPError', 'x', 'f1')",
            id=str(ULID()),
            job=job_id,
        )
    world.rows("UPDATE job_error_log SET fingerprint = 'f2' WHERE job_id = :id", id=other)
    world.rows("UPDATE job SET status = 'finished' WHERE id = :id", id=finished)
    age(world, old, 30)

    retry(world, error_group="f1", failed_after=(world.now() - timedelta(hours=1)).isoformat())

    assert statuses(world, meant, *more) == ["queued"] * 4
    assert statuses(world, old, other, finished) == ["failed", "failed", "finished"]
    assert len([e for e in world.events("job_updated") if e.payload == {"status": "queued"}]) == 4


def test_a_redelivered_retry_does_not_retry_a_new_failure(world: World) -> None:
    """The message applied to the first failure only."""
    (job_id,) = failed(world, 1)
    message = str(ULID())
    retry(world, message, job_ids=[job_id])
    crawler = world.crawler()
    world.assign()
    crawler.fails(*crawler.orders(), recoverable=False)

    retry(world, message, job_ids=[job_id])

    assert world.job(job_id).status == "failed"


def test_a_job_requeued_meanwhile_is_unchanged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The web app cancels it between the read and the lock: it stays cancelled."""
    job_id, other = failed(world, 2)

    def slow(*arguments: Any) -> Any:
        world.rows("UPDATE job SET status = 'cancelled' WHERE id = :id", id=job_id)
        return lock_jobs(*arguments)

    monkeypatch.setattr("tasks.jobs.retry.lock_jobs", slow)
    retry(world, job_ids=[job_id, other])

    assert statuses(world, job_id, other) == ["cancelled", "queued"]
    assert world.entry(job_id).status == "failed"


@pytest.mark.parametrize(
    "payload",
    [
        {"error_group": "f1", "account_id": "acc"},
        {"account_id": "acc", "failed_after": "2026-05-04T03:02:01"},
        {"failed_after": "2026-05-04T03:02:01Z"},
    ],
    ids=["two choices", "a time without its zone", "no choice"],
)
def test_an_invalid_retry_selection_is_rejected(world: World, payload: dict[str, Any]) -> None:
    """No job is retried."""
    (job_id,) = failed(world, 1)

    retry(world, **payload)

    assert world.rejections() == [("jobs.retry", "invalid")]
    assert world.job(job_id).status == "failed"
