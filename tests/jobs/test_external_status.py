"""A status that the web app writes wins over frames, over a loss, and over our own rows."""

from datetime import timedelta
from typing import Any

import pytest

from persistence.settings import settings
from support.worlds.world import World
from tasks.jobs.transitions import LONGEST_BACKOFF, backoff

FRAMES: dict[str, dict[str, Any]] = {
    "job_started": {},
    "job_progress": {"stage": "fetching", "entityType": "issue", "processed": 1},
    "job_completed": {},
    "job_failed": {"error": "it broke", "isRecoverable": True},
}

BY_THE_WEB_APP = ("paused", "cancelled", "failed", "finished", "credential_expired")


def the_web_app_says(world: World, status: str) -> None:
    """Write this status into every job."""
    world.rows("UPDATE job SET status = :status", status=status)


@pytest.mark.parametrize("status", BY_THE_WEB_APP)
@pytest.mark.parametrize("kind", FRAMES)
def test_no_frame_undoes_a_status_of_the_web_app(world: World, status: str, kind: str) -> None:
    """The attempt may continue or end; the job keeps the status that the web app wrote."""
    crawler, (order,) = world.crawler_with_jobs()
    the_web_app_says(world, status)

    crawler.sends(kind, order, **FRAMES[kind])

    assert world.scalar("SELECT status FROM job") == status
    assert world.events("job_updated") == []


@pytest.mark.parametrize("status", ["paused", "cancelled", "finished"])
def test_no_permanent_failure_undoes_a_status_of_the_web_app(world: World, status: str) -> None:
    """Neither a permanent failure from the crawler nor a fifth loss changes it."""
    crawler, (order,) = world.crawler_with_jobs()
    other, _ = world.crawler_with_jobs()
    world.rows("UPDATE job_queue SET losses = 4")
    the_web_app_says(world, status)

    crawler.fails(order, recoverable=False)
    other.silent_for(60)
    world.sweep()

    assert world.rows("SELECT status FROM job") == [(status,), (status,)]
    assert world.rows("SELECT status FROM job_queue") == [("failed",), ("failed",)]
    assert world.events("job_updated") == []


@pytest.mark.parametrize("status", ["paused", "cancelled"])
def test_no_loss_requeues_a_job_that_must_not_be_crawled(world: World, status: str) -> None:
    """Its entry becomes pending, and reconcile or a round settles it by the job's status."""
    crawler, _ = world.crawler_with_jobs()
    the_web_app_says(world, status)
    crawler.silent_for(60)

    world.sweep()

    assert world.scalar("SELECT status FROM job") == status
    world.crawler()
    world.assign()
    assert world.rows("SELECT * FROM crawler_order") == []


def test_a_parked_job_ended_by_the_web_app_is_settled(world: World) -> None:
    """The clean-up finds old jobs by their settled entries."""
    (job_id,) = world.jobs(1)
    world.deliver("jobs.pause", job_ids=[job_id])
    assert world.entry(job_id).held
    the_web_app_says(world, "finished")

    world.deliver("upkeep.reconcile")

    entry = world.entry(job_id)
    assert (entry.status, entry.held, entry.settled_at is None) == ("failed", False, False)


def test_a_completed_entry_stays_completed_beside_a_live_attempt(world: World) -> None:
    """A stray attempt of a finished job is revoked; the entry still records that it was crawled."""
    crawler, (order,) = world.crawler_with_jobs()
    crawler.sends("job_completed", order)
    world.rows("UPDATE job_assignment_mapping SET status = 'running', completed_at = NULL")

    world.deliver("upkeep.reconcile")

    assert crawler.orders() == []
    assert world.row("SELECT status, error FROM job_queue") == ("completed", None)
    assert world.scalar("SELECT status FROM job") == "finished"


def test_a_requeued_job_paused_meanwhile_has_clean_counts(world: World) -> None:
    """If it is paused before it is enqueued and then resumed, its counters are at 0, as after any end."""
    crawler, (order,) = world.crawler_with_jobs()
    world.rows("UPDATE job_queue SET attempts = 2")
    crawler.sends("job_completed", order)
    the_web_app_says(world, "queued")
    (job_id,) = (row.id for row in world.rows("SELECT id FROM job"))

    world.deliver("jobs.pause", job_ids=[job_id])
    assert world.entry(job_id).status == "completed"
    world.deliver("jobs.resume", job_ids=[job_id])

    entry = world.entry(job_id)
    assert (entry.status, entry.held, entry.attempts) == ("pending", False, 0)


def test_a_reported_failure_clears_losses(world: World) -> None:
    """A failure counts as an attempt and sets the losses before it to 0."""
    crawler, (order,) = world.crawler_with_jobs()
    world.rows("UPDATE job_queue SET losses = 3")

    crawler.fails(order)

    assert world.row("SELECT attempts, losses FROM job_queue") == (1, 0)


def test_the_backoff_doubles_up_to_a_limit(world: World) -> None:
    """The jitter stays in its bounds, however often a job has failed."""
    first = settings().retry_delay
    for times in range(1, 5):
        assert first * 2 ** (times - 1) <= backoff(times) <= first * 1.25 * 2 ** (times - 1)
    assert backoff(100) == LONGEST_BACKOFF == timedelta(minutes=15)
