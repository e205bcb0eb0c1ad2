"""Upkeep: every lost bell is found, and the web app's word wins, in bounded units."""

from typing import Any

import pytest

from support.worlds.world import World

ENDED = ("cancelled", "finished", "failed")


def reconcile(world: World, **payload: Any) -> None:
    """Ring upkeep.reconcile, long after the last time."""
    world.rows("UPDATE periodic_ring SET rung_at = rung_at - interval '1 hour'")
    world.rung.bells.clear()
    world.deliver("upkeep.reconcile", **payload)


def unheard(world: World) -> list[str]:
    """The jobs that say another thing than their entry or attempt."""
    with world.unit() as uow:
        return list(uow.queue.unheard(1000))


def says(world: World, job_id: str, status: str) -> None:
    """The web app writes a status, behind our back."""
    world.rows("UPDATE job SET status = :s WHERE id = :id", s=status, id=job_id)


def working(world: World) -> tuple[Any, str, str]:
    """A crawler that has begun a job: it, its order, the job."""
    crawler, (order,) = world.working()
    crawler.says("job_started", order)
    job_id = world.one("SELECT web_app_job_id FROM job_assignment_mapping WHERE crawler_job_id = :o", o=order)
    return crawler, order, job_id


def test_a_job_whose_bell_was_lost_is_queued(world: World) -> None:
    """The web app inserted it and died before it rang; its own bookkeeping is not ours."""
    job_id = world.insert_job()
    world.insert_job(command="authorizationScope", full_path=None)
    for status in ENDED:
        world.insert_job(status=status)

    reconcile(world)

    assert world.rows("SELECT web_app_job_id, status FROM job_queue") == [(job_id, "pending")]
    assert [(e.job_id, e.payload) for e in world.events("job_created")] == [(job_id, {"existing": False})]
    assert world.events("job_updated") == []
    assert world.rung.bells == [("jobs.assign", {})]
    assert (unheard(world), world.rejections()) == ([], [])


@pytest.mark.parametrize("status", ENDED)
def test_a_pending_job_that_the_web_app_ended_is_seated_no_more(world: World, status: str) -> None:
    """The entry says why; the job's row is the web app's, and nobody was at work."""
    (job_id,) = world.jobs(1)
    says(world, job_id, status)
    before = world.job(job_id)

    reconcile(world)

    assert (world.entry(job_id).status, world.entry(job_id).error) == ("failed", status)
    assert world.job(job_id) == before
    assert (world.errors(job_id), world.rung.bells, unheard(world)) == ([], [], [])


@pytest.mark.parametrize("status", ["paused", "credential_expired", "waiting_credential_renewal"])
def test_a_pending_job_that_the_web_app_paused_is_held(world: World, status: str) -> None:
    """It stays pending, and no pass seats it."""
    (job_id,) = world.jobs(1)
    says(world, job_id, status)

    reconcile(world)

    crawler = world.crawler()
    world.assign()
    assert (world.entry(job_id).status, world.entry(job_id).held) == ("pending", True)
    assert (world.job(job_id).status, crawler.orders(), unheard(world)) == (status, [], [])


@pytest.mark.parametrize("status", [*ENDED, "paused"])
def test_a_live_attempt_of_a_job_that_the_web_app_ended_or_paused_is_revoked(
    world: World, status: str
) -> None:
    """It ends cancelled with an error row and an event, its seat is free, and nothing is counted."""
    crawler, order, job_id = working(world)
    says(world, job_id, status)
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
    assert world.rung.bells == [("jobs.assign", {})]
    assert unheard(world) == []


@pytest.mark.parametrize("at_work", [False, True], ids=["pending", "live"])
def test_a_paused_job_that_is_queued_again_keeps_what_was_counted(world: World, at_work: bool) -> None:  # noqa: FBT001
    """A pause is no pardon: attempts and losses stay."""
    job_id = working(world)[2] if at_work else world.jobs(1)[0]
    world.rows("UPDATE job_queue SET attempts = 2, losses = 1")
    says(world, job_id, "paused")
    reconcile(world)

    says(world, job_id, "queued")
    reconcile(world)

    entry = world.entry(job_id)
    assert (entry.status, entry.held, entry.attempts, entry.losses) == ("pending", False, 2, 1)
    assert world.rung.bells == [("jobs.assign", {})]
    assert unheard(world) == []
    world.crawler()
    world.assign()
    assert world.attempts(job_id)[-1].status == "assigned"


@pytest.mark.parametrize("status", ENDED)
def test_a_job_that_had_ended_and_is_queued_again_starts_with_nothing_counted(
    world: World, status: str
) -> None:
    """It is due at once."""
    (job_id,) = world.jobs(1)
    says(world, job_id, status)
    reconcile(world)
    world.rows("UPDATE job_queue SET attempts = 3, losses = 4, goodbyes = 5, ready = false")

    says(world, job_id, "queued")
    reconcile(world)

    entry = world.entry(job_id)
    assert (entry.status, entry.ready, entry.error, entry.settled_at) == ("pending", True, None, None)
    assert (entry.attempts, entry.losses, entry.goodbyes) == (0, 0, 0)
    assert (world.rung.bells, unheard(world)) == ([("jobs.assign", {})], [])


def test_an_entry_in_process_without_a_live_attempt_waits_again(world: World) -> None:
    """With what was counted; a job that was running is queued, and keeps its start and where to resume."""
    _, _, job_id = working(world)
    world.rows("UPDATE job_queue SET attempts = 2")
    world.rows("UPDATE job SET resume_state = '{\"currentPage\": 3}'")
    world.rows("UPDATE job_assignment_mapping SET status = 'failed', completed_at = now()")

    reconcile(world)

    assert (world.entry(job_id).status, world.entry(job_id).attempts) == ("pending", 2)
    job = world.job(job_id)
    assert (job.status, job.started_at is None, job.resume_state) == ("queued", False, {"currentPage": 3})
    assert world.events("job_updated")[-1].payload == {"status": "queued"}
    assert (world.rung.bells, unheard(world)) == ([("jobs.assign", {})], [])


def test_a_pending_entry_beside_a_live_attempt_is_in_process(world: World) -> None:
    """The attempt goes on."""
    crawler, order, job_id = working(world)
    world.rows("UPDATE job_queue SET status = 'pending'")

    reconcile(world)

    assert (world.entry(job_id).status, world.job(job_id).status) == ("processing", "running")
    assert (crawler.orders(), world.rung.bells, unheard(world)) == ([order], [], [])


@pytest.mark.parametrize("entry", [True, False], ids=["with an entry", "without an entry"])
def test_a_job_said_to_be_running_without_an_attempt_is_queued(world: World, entry: bool) -> None:  # noqa: FBT001
    """Nobody works on it: it waits."""
    job_id = world.jobs(1)[0] if entry else world.insert_job()
    says(world, job_id, "running")

    reconcile(world)

    assert (world.job(job_id).status, world.entry(job_id).status) == ("queued", "pending")
    assert [e.payload for e in world.events("job_updated")] == [{"status": "queued"}]
    assert unheard(world) == []


def test_jobs_from_before_us_are_left_alone(world: World) -> None:
    """Those of an older database, until they are adopted; later ones are not."""
    old, young = world.insert_job(), world.insert_job()
    world.rows("UPDATE job SET created_at = now() - interval '1 hour' WHERE id = :id", id=old)
    world.rows("UPDATE adoption SET adopted_from = now() - interval '1 minute'")

    reconcile(world)

    assert world.rows("SELECT web_app_job_id FROM job_queue") == [(young,)]
    world.rows("UPDATE adoption SET adopted_from = NULL")
    reconcile(world)
    assert world.entry(old).status == "pending"


def test_rung_twice_within_half_an_interval_it_does_once(world: World) -> None:
    """Many beats are as one: 15 s of 30."""
    reconcile(world)
    job_id = world.insert_job()

    world.rows("UPDATE periodic_ring SET rung_at = clock_timestamp() - interval '13 seconds'")
    world.deliver("upkeep.reconcile")
    assert unheard(world) == [job_id]

    world.rows("UPDATE periodic_ring SET rung_at = clock_timestamp() - interval '16 seconds'")
    world.deliver("upkeep.reconcile")
    assert unheard(world) == []


def test_a_ring_of_a_clock_that_was_ahead_stops_nothing(world: World) -> None:
    """After the server's clock was set back, the last ring lies in the future: it does not count."""
    reconcile(world)
    job_id = world.insert_job()
    world.rows("UPDATE periodic_ring SET rung_at = clock_timestamp() + interval '1 day'")

    world.deliver("upkeep.reconcile")

    assert world.entry(job_id).status == "pending"


def test_more_than_a_unit_rings_itself(world: World) -> None:
    """A thousand at a time; the continuation does not wait for half an interval."""
    world.rows(
        'INSERT INTO job (id, "accountId", command, full_path)'
        " SELECT 'job-' || n, 'acc', 'project', 'group/' || n FROM generate_series(1, 1003) n"
    )

    reconcile(world)
    assert world.one("SELECT count(*) FROM job_queue WHERE status = 'pending'") == 1000
    assert world.rung.of("upkeep.reconcile") == [{"more": True}]

    world.rung.bells.clear()
    world.deliver("upkeep.reconcile", more=True)
    assert world.one("SELECT count(*) FROM job_queue WHERE status = 'pending'") == 1003
    assert world.rung.of("upkeep.reconcile") == []


def test_on_a_healthy_database_it_finds_nothing(world: World) -> None:
    """Jobs in every state that they reach by themselves: none is touched, none is announced."""
    world.jobs(11)
    crawler = world.crawler(capacity=7)
    world.assign()
    started, progressed, completed, again, failed, lost, _ = crawler.orders()
    for order in (started, progressed, completed, again):
        crawler.says("job_started", order)
    crawler.says("job_progress", progressed, stage="fetching", entityType="issue", processed=1)
    crawler.says("job_completed", completed)
    crawler.fails(again)
    crawler.fails(failed, recoverable=False)
    other = world.crawler(capacity=1)
    world.assign()
    world.deliver("connections.disconnect", connection_id=other.id)
    world.sweep()
    waiting = world.rows("SELECT web_app_job_id FROM job_queue WHERE status = 'pending'")
    world.deliver("jobs.cancel", job_ids=[waiting[0][0]])
    world.deliver("jobs.cancel", job_ids=[world.one(
        "SELECT web_app_job_id FROM job_assignment_mapping WHERE crawler_job_id = :o", o=lost)])  # fmt: skip
    before = world.snapshot()
    updated = world.rows('SELECT id, "updatedAt" FROM job ORDER BY id')

    assert unheard(world) == []
    reconcile(world)

    assert world.snapshot() == before
    assert world.rows('SELECT id, "updatedAt" FROM job ORDER BY id') == updated
    statuses = {status for (status,) in world.rows("SELECT status FROM job")}
    assert statuses == {"queued", "running", "finished", "failed", "cancelled"}
    assert world.rung.bells == []


def test_a_job_that_was_deleted_frees_its_seat(world: World) -> None:
    """Its attempt went with it, and nobody was told."""
    crawler, _ = world.working()
    world.rows("DELETE FROM job")
    world.rung.bells.clear()

    world.deliver("upkeep.reconcile")

    assert crawler.row().active_jobs == []
    assert world.rung.of("jobs.assign") == [{}]


def test_force_on_a_job_cancelled_behind_our_back_leaves_no_live_attempt(world: World) -> None:
    """The attempt is revoked before the job is queued again; a cancel after it finds nothing live."""
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
