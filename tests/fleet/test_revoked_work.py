"""No frame stops a crawler: a revoked job keeps its slot until the crawler no longer reports it."""

from typing import Any

import pytest

from support.worlds.world import Crawler, World


@pytest.fixture(params=["cancel", "pause", "pause the account"])
def revoked(request: pytest.FixtureRequest, world: World) -> Any:
    """Revoke all live attempts of the account, in one of three ways."""

    def revoke() -> None:
        if request.param == "pause the account":
            world.deliver("jobs.pause", account_id="acc")
        else:
            ids = [id_ for (id_,) in world.rows("""SELECT id FROM job WHERE "accountId" = 'acc'""")]
            world.deliver(f"jobs.{request.param}", job_ids=ids)

    return revoke


def full_crawler(world: World) -> tuple[Crawler, list[str], list[str]]:
    """A crawler with two jobs in its two slots, and two jobs of another account that wait."""
    crawler, orders = world.crawler_with_jobs(2)
    for order in orders:
        crawler.sends("job_started", order)
    world.account("other")
    return crawler, orders, world.jobs(2, account_id="other")


def count_assigned(world: World, jobs: list[str]) -> int:
    """Run a round; the number of these jobs that were ever assigned."""
    world.assign()
    return sum(len(world.attempts(job_id)) for job_id in jobs)


def test_a_slot_stays_used_until_the_crawler_stops_listing_the_job(world: World, revoked: Any) -> None:
    """A crawler works on the jobs that it lists."""
    crawler, (first, second), waiting = full_crawler(world)
    crawler.sends("heartbeat", activeJobs=[first, second])

    revoked()

    assert (crawler.orders(), crawler.row().active_jobs, crawler.row().reported) == ([], [], 2)
    assert count_assigned(world, waiting) == 0
    crawler.sends("heartbeat", activeJobs=[second])
    assert count_assigned(world, waiting) == 1


def test_a_slot_stays_used_until_the_crawler_reports_a_lower_count(world: World, revoked: Any) -> None:
    """A count keeps slots used as a list does."""
    crawler, _, waiting = full_crawler(world)
    crawler.sends("heartbeat", activeJobs=2)

    revoked()

    assert count_assigned(world, waiting) == 0
    crawler.sends("heartbeat", activeJobs=1)
    assert count_assigned(world, waiting) == 1


@pytest.mark.parametrize("end", ["job_completed", "job_failed"])
def test_a_slot_stays_used_until_the_crawler_reports_the_end(world: World, revoked: Any, end: str) -> None:
    """The terminal frame frees the slot, and is otherwise stale: counted on the attempt, not applied."""
    crawler, (first, second), waiting = full_crawler(world)
    crawler.sends("heartbeat", activeJobs=[first, second])
    revoked()
    status = world.rows("SELECT id, status, progress FROM job ORDER BY id")

    crawler.sends("job_progress", first, stage="fetching", entityType="issue", processed=1)
    crawler.sends(end, first, **({"error": "late", "isRecoverable": True} if end == "job_failed" else {}))

    assert world.rows("SELECT id, status, progress FROM job ORDER BY id") == status
    stale = "SELECT stale_words, status FROM job_assignment_mapping WHERE crawler_job_id = :f"
    assert world.row(stale, f=first) == (2, "cancelled")
    assert [e.error_type for e in world.rows("SELECT error_type FROM job_error_log")] == ["Cancelled"] * 2
    assert crawler.row().reported_jobs == [second]
    assert count_assigned(world, waiting) == 1


def test_the_slots_of_a_crawler_that_reports_nothing_are_free_at_once(world: World, revoked: Any) -> None:
    """Nothing shows that it still works on them; its next list uses the slots again."""
    crawler, orders, waiting = full_crawler(world)

    revoked()

    assert (crawler.row().active_jobs, crawler.row().reported) == ([], 0)
    crawler.sends("heartbeat", activeJobs=orders)
    assert count_assigned(world, waiting) == 0
