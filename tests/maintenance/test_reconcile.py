"""Reconcile finds every failed publish, and follows the statuses that the web app writes."""

from typing import Any

import pytest

from support.worlds.world import World

ENDED = ("cancelled", "finished", "failed")


def reconcile(world: World, **payload: Any) -> None:
    """Deliver upkeep.reconcile, long after the last run."""
    world.rows("UPDATE periodic_ring SET rung_at = rung_at - interval '1 hour'")
    world.published.messages.clear()
    world.deliver("upkeep.reconcile", **payload)


def out_of_sync(world: World) -> list[str]:
    """The jobs whose status disagrees with their entry or attempt."""
    with world.unit() as uow:
        return list(uow.entries.out_of_sync(1000))


def set_status(world: World, job_id: str, status: str) -> None:
    """The web app writes a status itself."""
    world.rows("UPDATE job SET status = :s WHERE id = :id", s=status, id=job_id)


def working(world: World) -> tuple[Any, str, str]:
    """A crawler that has started a job: the crawler, its order and the job."""
    crawler, (order,) = world.crawler_with_jobs()
    crawler.sends("job_started", order)
    job_id = world.scalar(
        "SELECT web_app_job_id FROM job_assignment_mapping WHERE crawler_job_id = :o", o=order
    )
    return crawler, order, job_id


def test_a_job_whose_publish_failed_is_queued(world: World) -> None:
    """The web app inserted the job but did not publish it; its own authorizationScope job is ignored."""
    job_id = world.insert_job()
    world.insert_job(command="authorizationScope", full_path=None)
    for status in ENDED:
        world.insert_job(status=status)

    reconcile(world)

    assert world.rows("SELECT web_app_job_id, status FROM job_queue") == [(job_id, "pending")]
    assert [(e.job_id, e.payload) for e in world.events("job_created")] == [(job_id, {"existing": False})]
    assert world.events("job_updated") == []
    assert world.published.messages == [("jobs.assign", {})]
    assert (out_of_sync(world), world.rejections()) == ([], [])


@pytest.mark.parametrize("status", ENDED)
def test_a_pending_job_ended_by_the_web_app_is_not_assigned(world: World, status: str) -> None:
    """The entry records why, and the job's row is unchanged."""
    (job_id,) = world.jobs(1)
    set_status(world, job_id, status)
    before = world.job(job_id)

    reconcile(world)

    assert (world.entry(job_id).status, world.entry(job_id).error) == ("failed", status)
    assert world.job(job_id) == before
    assert (world.errors(job_id), world.published.messages, out_of_sync(world)) == ([], [], [])


@pytest.mark.parametrize("status", ["paused", "credential_expired", "waiting_credential_renewal"])
def test_a_pending_job_paused_by_the_web_app_is_parked(world: World, status: str) -> None:
    """The entry stays pending, and no round assigns it."""
    (job_id,) = world.jobs(1)
    set_status(world, job_id, status)

    reconcile(world)

    crawler = world.crawler()
    world.assign()
    assert (world.entry(job_id).status, world.entry(job_id).held) == ("pending", True)
    assert (world.job(job_id).status, crawler.orders(), out_of_sync(world)) == (status, [], [])


@pytest.mark.parametrize("status", [*ENDED, "paused"])
def test_a_live_attempt_of_a_job_ended_or_paused_by_the_web_app_is_revoked(world: World, status: str) -> None:
    """It is cancelled with an error and an event, its slot is free, and nothing is counted."""
    crawler, order, job_id = working(world)
    set_status(world, job_id, status)
    before = world.job(job_id)

    reconcile(world)

    assert [a.status for a in world.attempts(job_id)] == ["cancelled"]
    assert [e.error_type for e in world.errors(job_id)] == ["Cancelled"]
    assert [(e.connection_id, e.payload) for e in world.events("job_revoked")] == [
        (crawler.id, {"crawler_job_id": order, "reason": "Cancelled"})
    ]
    entry = world.entry(job_id)
    assert (entry.status, entry.held) == (("pending", True) if status == "paused" else ("failed", False))
    assert (entry.attempts, entry.losses) == (0, 0)
    assert crawler.row().active_jobs == []
    assert world.job(job_id) == before
    assert world.published.messages == [("jobs.assign", {})]
    assert out_of_sync(world) == []


@pytest.mark.parametrize("at_work", [False, True], ids=["pending", "live"])
def test_a_paused_job_set_to_queued_keeps_its_counts(world: World, at_work: bool) -> None:  # noqa: FBT001
    """A pause does not reset attempts and losses."""
    job_id = working(world)[2] if at_work else world.jobs(1)[0]
    world.rows("UPDATE job_queue SET attempts = 2, losses = 1")
    set_status(world, job_id, "paused")
    reconcile(world)

    set_status(world, job_id, "queued")
    reconcile(world)

    entry = world.entry(job_id)
    assert (entry.status, entry.held, entry.attempts, entry.losses) == ("pending", False, 2, 1)
    assert world.published.messages == [("jobs.assign", {})]
    assert out_of_sync(world) == []
    world.crawler()
    world.assign()
    assert world.attempts(job_id)[-1].status == "assigned"


@pytest.mark.parametrize("status", ENDED)
def test_an_ended_job_set_to_queued_again_starts_with_clean_counts(world: World, status: str) -> None:
    """Its entry is due at once."""
    (job_id,) = world.jobs(1)
    set_status(world, job_id, status)
    reconcile(world)
    world.rows("UPDATE job_queue SET attempts = 3, losses = 4, goodbyes = 5, ready = false")

    set_status(world, job_id, "queued")
    reconcile(world)

    entry = world.entry(job_id)
    assert (entry.status, entry.ready, entry.error, entry.settled_at) == ("pending", True, None, None)
    assert (entry.attempts, entry.losses, entry.goodbyes) == (0, 0, 0)
    assert (world.published.messages, out_of_sync(world)) == ([("jobs.assign", {})], [])


def test_a_processing_entry_without_a_live_attempt_becomes_pending(world: World) -> None:
    """The counts stay; a running job is queued, and keeps its start and resume_state."""
    _, _, job_id = working(world)
    world.rows("UPDATE job_queue SET attempts = 2")
    world.rows("UPDATE job SET resume_state = '{\"currentPage\": 3}'")
    world.rows("UPDATE job_assignment_mapping SET status = 'failed', completed_at = now()")

    reconcile(world)

    assert (world.entry(job_id).status, world.entry(job_id).attempts) == ("pending", 2)
    job = world.job(job_id)
    assert (job.status, job.started_at is None, job.resume_state) == ("queued", False, {"currentPage": 3})
    assert world.events("job_updated")[-1].payload == {"status": "queued"}
    assert (world.published.messages, out_of_sync(world)) == ([("jobs.assign", {})], [])


def test_a_pending_entry_with_a_live_attempt_becomes_processing(world: World) -> None:
    """The attempt continues."""
    crawler, order, job_id = working(world)
    world.rows("UPDATE job_queue SET status = 'pending'")

    reconcile(world)

    assert (world.entry(job_id).status, world.job(job_id).status) == ("processing", "running")
    assert (crawler.orders(), world.published.messages, out_of_sync(world)) == ([order], [], [])


@pytest.mark.parametrize("entry", [True, False], ids=["with an entry", "without an entry"])
def test_a_running_job_without_an_attempt_is_queued(world: World, entry: bool) -> None:  # noqa: FBT001
    """No crawler works on the job, so it waits."""
    job_id = world.jobs(1)[0] if entry else world.insert_job()
    set_status(world, job_id, "running")

    reconcile(world)

    assert (world.job(job_id).status, world.entry(job_id).status) == ("queued", "pending")
    assert [e.payload for e in world.events("job_updated")] == [{"status": "queued"}]
    assert out_of_sync(world) == []


def test_jobs_of_an_older_component_are_unchanged(world: World) -> None:
    """Jobs of an older database are ignored until they are adopted; later jobs are not."""
    old, young = world.insert_job(), world.insert_job()
    world.rows("UPDATE job SET created_at = now() - interval '1 hour' WHERE id = :id", id=old)
    world.rows("UPDATE adoption SET adopted_from = now() - interval '1 minute'")

    reconcile(world)

    assert world.rows("SELECT web_app_job_id FROM job_queue") == [(young,)]
    world.rows("UPDATE adoption SET adopted_from = NULL")
    reconcile(world)
    assert world.entry(old).status == "pending"


def test_a_second_message_within_half_an_interval_does_nothing(world: World) -> None:
    """Half an interval is 15 s of 30."""
    reconcile(world)
    job_id = world.insert_job()

    world.rows("UPDATE periodic_ring SET rung_at = clock_timestamp() - interval '13 seconds'")
    world.deliver("upkeep.reconcile")
    assert out_of_sync(world) == [job_id]

    world.rows("UPDATE periodic_ring SET rung_at = clock_timestamp() - interval '16 seconds'")
    world.deliver("upkeep.reconcile")
    assert out_of_sync(world) == []


def test_a_publish_time_in_the_future_does_not_block_the_task(world: World) -> None:
    """The time of the last run is in the future after the server's clock was set back, and does not count."""
    reconcile(world)
    job_id = world.insert_job()
    world.rows("UPDATE periodic_ring SET rung_at = clock_timestamp() + interval '1 day'")

    world.deliver("upkeep.reconcile")

    assert world.entry(job_id).status == "pending"


def test_more_work_than_a_chunk_publishes_another_run(world: World) -> None:
    """A thousand at a time; the continuation does not wait for half an interval."""
    world.rows(
        'INSERT INTO job (id, "accountId", command, full_path)'
        " SELECT 'job-' || n, 'acc', 'project', 'group/' || n FROM generate_series(1, 1003) n"
    )

    reconcile(world)
    assert world.scalar("SELECT count(*) FROM job_queue WHERE status = 'pending'") == 1000
    assert world.published.of("upkeep.reconcile") == [{"more": True}]

    world.published.messages.clear()
    world.deliver("upkeep.reconcile", more=True)
    assert world.scalar("SELECT count(*) FROM job_queue WHERE status = 'pending'") == 1003
    assert world.published.of("upkeep.reconcile") == []


def test_reconcile_finds_nothing_on_a_healthy_database(world: World) -> None:
    """With jobs in every state, no row changes and no event is written."""
    world.jobs(11)
    crawler = world.crawler(capacity=7)
    world.assign()
    started, progressed, completed, again, failed, lost, _ = crawler.orders()
    for order in (started, progressed, completed, again):
        crawler.sends("job_started", order)
    crawler.sends("job_progress", progressed, stage="fetching", entityType="issue", processed=1)
    crawler.sends("job_completed", completed)
    crawler.fails(again)
    crawler.fails(failed, recoverable=False)
    other = world.crawler(capacity=1)
    world.assign()
    world.deliver("connections.disconnect", connection_id=other.id)
    world.sweep()
    waiting = world.rows("SELECT web_app_job_id FROM job_queue WHERE status = 'pending'")
    world.deliver("jobs.cancel", job_ids=[waiting[0][0]])
    world.deliver("jobs.cancel", job_ids=[world.scalar(
        "SELECT web_app_job_id FROM job_assignment_mapping WHERE crawler_job_id = :o", o=lost)])  # fmt: skip
    before = world.snapshot()
    updated = world.rows('SELECT id, "updatedAt" FROM job ORDER BY id')

    assert out_of_sync(world) == []
    reconcile(world)

    assert world.snapshot() == before
    assert world.rows('SELECT id, "updatedAt" FROM job ORDER BY id') == updated
    statuses = {status for (status,) in world.rows("SELECT status FROM job")}
    assert statuses == {"queued", "running", "finished", "failed", "cancelled"}
    assert world.published.messages == []


def test_a_deleted_job_frees_its_slot(world: World) -> None:
    """The web app deleted the job and its attempt while a crawler worked on it."""
    crawler, _ = world.crawler_with_jobs()
    world.rows("DELETE FROM job")
    world.published.messages.clear()

    world.deliver("upkeep.reconcile")

    assert crawler.row().active_jobs == []
    assert world.published.of("jobs.assign") == [{}]


def test_force_on_a_job_cancelled_by_the_web_app_leaves_no_live_attempt(world: World) -> None:
    """The attempt is revoked before the job is queued again, and a later cancel finds nothing live."""
    order = world.order()
    world.submit(order)
    crawler = world.crawler()
    world.assign()
    world.rows("UPDATE job SET status = 'cancelled'")

    world.submit(order | {"force": True})

    assert crawler.orders() == []
    assert [a.status for a in world.attempts(order["web_app_job_id"])] == ["cancelled"]
    assert world.job(order["web_app_job_id"]).status == "queued"
    world.rows("UPDATE job SET status = 'cancelled'")
    world.deliver("upkeep.reconcile")
    assert world.entry(order["web_app_job_id"]).status == "failed"
