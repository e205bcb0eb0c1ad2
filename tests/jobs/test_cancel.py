"""jobs.cancel: the selected jobs end in every state, no others do, and none keeps a live attempt."""

from functools import partial
from typing import Any

import pytest
from ulid import ULID

from support.worlds.world import World
from tasks.jobs import selections
from tasks.jobs.locking import lock_jobs
from tasks.runtime import chunks


def statuses(world: World, *job_ids: str) -> list[str]:
    """The statuses of these jobs."""
    return [world.job(job_id).status for job_id in job_ids]


def cancel(world: World, message: str | None = None, **selection: Any) -> None:
    """Deliver jobs.cancel."""
    world.deliver("jobs.cancel", message, **selection)


def test_a_pending_job_is_cancelled(world: World) -> None:
    """Its entry fails with the error `cancelled`; no attempt is revoked, and the other jobs keep waiting."""
    job_id, other = world.jobs(2)
    world.published.messages.clear()

    cancel(world, job_ids=[job_id])

    job, entry = world.job(job_id), world.entry(job_id)
    assert (job.status, job.finished_at is None) == ("cancelled", False)
    assert (entry.status, entry.error, entry.settled_at is None) == ("failed", "cancelled", False)
    assert [(e.job_id, e.account_id, e.payload) for e in world.events("job_updated")] == [
        (job_id, "acc", {"status": "cancelled"})
    ]
    assert (world.errors(job_id), world.events("job_revoked")) == ([], [])
    assert (world.job(other).status, world.entry(other).status) == ("queued", "pending")
    assert world.published.messages == []


@pytest.mark.parametrize("stage", ["assigned", "running"])
def test_a_live_attempt_is_closed_and_its_slot_is_freed(world: World, stage: str) -> None:
    """The attempt ends as cancelled, with an error and an event; no loss is counted, and the other job continues."""
    crawler, orders = world.crawler_with_jobs(2)
    (waiting,) = world.jobs(1)
    fence = {a.crawler_job_id: a.web_app_job_id for a in world.rows("SELECT * FROM job_assignment_mapping")}
    revoked, kept = orders
    job_id = fence[revoked]
    if stage == "running":
        crawler.sends("job_started", revoked)
    world.published.messages.clear()

    cancel(world, job_ids=[job_id], reason="the study ended")

    (attempt,) = world.attempts(job_id)
    assert (attempt.status, attempt.completed_at is None) == ("cancelled", False)
    (error,) = world.errors(job_id)
    assert (error.error_type, error.error_message, error.retry_count) == ("Cancelled", "the study ended", 0)
    assert error.context == {"crawler_job_id": revoked, "connection_id": crawler.id}
    assert [(e.job_id, e.connection_id, e.payload) for e in world.events("job_revoked")] == [
        (job_id, crawler.id, {"crawler_job_id": revoked, "reason": "Cancelled"})
    ]
    entry = world.entry(job_id)
    assert (entry.status, entry.error, entry.attempts, entry.losses) == ("failed", "cancelled", 0, 0)
    assert statuses(world, job_id, fence[kept]) == ["cancelled", "queued"]
    assert crawler.row().active_jobs == crawler.orders() == [kept]
    assert world.published.messages == [("jobs.assign", {})]
    world.assign()
    assert [a.connection_id for a in world.attempts(waiting)] == [crawler.id]


@pytest.mark.parametrize("status", ["finished", "failed", "cancelled"])
def test_an_ended_job_is_unchanged(world: World, status: str) -> None:
    """Neither the job nor its entry changes, and no event is added."""
    (job_id,) = world.jobs(1)
    world.rows("UPDATE job SET status = :s, finished_at = now()", s=status)
    world.deliver("upkeep.reconcile")
    before, finished_at = world.snapshot(), world.job(job_id).finished_at

    cancel(world, job_ids=[job_id, str(ULID())])

    assert world.snapshot() == before
    assert world.job(job_id).finished_at == finished_at


@pytest.mark.parametrize("status", ["finished", "failed"])
def test_a_job_ended_by_the_web_app_meanwhile_is_not_cancelled(
    world: World, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """It ends between the read and the lock: its status stays, and reconcile settles entry and attempt."""
    crawler, orders = world.crawler_with_jobs()
    job_id = world.scalar("SELECT id FROM job")

    def slow(*arguments: Any) -> Any:
        world.rows("UPDATE job SET status = :s", s=status)
        return lock_jobs(*arguments)

    monkeypatch.setattr("tasks.jobs.cancel.lock_jobs", slow)
    cancel(world, job_ids=[job_id])

    assert (statuses(world, job_id), world.entry(job_id).status) == ([status], "processing")
    assert (crawler.orders(), world.errors(job_id), world.events("job_updated")) == (orders, [], [])
    world.deliver("upkeep.reconcile")
    assert (world.entry(job_id).status, world.entry(job_id).error) == ("failed", status)


@pytest.mark.parametrize("status", ["paused", "credential_expired", "waiting_credential_renewal"])
def test_a_parked_job_is_cancelled_too(world: World, status: str) -> None:
    """Its entry is settled."""
    (job_id,) = world.jobs(1)
    world.rows("UPDATE job SET status = :s", s=status)
    world.deliver("upkeep.reconcile")

    cancel(world, job_ids=[job_id])

    assert world.job(job_id).status == "cancelled"
    assert (world.entry(job_id).status, world.entry(job_id).held) == ("failed", False)


def test_all_jobs_of_an_account_are_cancelled(world: World) -> None:
    """Pending and live jobs are; its authorizationScope job and the jobs of other accounts are not."""
    world.account("other")
    crawler, _ = world.crawler_with_jobs(1)
    world.jobs(2)
    scope = world.insert_job(command="authorizationScope", full_path=None)
    (other,) = world.jobs(1, account_id="other")

    cancel(world, account_id="acc")

    assert world.scalar("SELECT count(*) FROM job WHERE status = 'cancelled'") == 3
    assert statuses(world, scope, other) == ["queued", "queued"]
    assert crawler.orders() == []


def test_an_area_is_cancelled_with_everything_below_it(world: World) -> None:
    """A path that only starts with the same letters, or that a wildcard would match, is not selected."""
    inside = [world.jobs(1, namespace_path=path)[0] for path in ("a_b", "a_b/c", "a_b/c/d", "A_B/e")]
    outside = [world.jobs(1, namespace_path=path)[0] for path in ("a_bc", "a_b-c/d", "a", "axb/c", "x/a_b/c")]
    outside += world.jobs(1, namespace_path=None, command="users")

    cancel(world, area="a_B")

    assert statuses(world, *inside) == ["cancelled"] * 4
    assert statuses(world, *outside) == ["queued"] * 6


def test_a_subtree_is_cancelled_to_its_leaves(world: World) -> None:
    """Finished jobs at the root or in between do not end the search; siblings and parents continue."""
    top = world.insert_job()
    root = world.insert_job(spawned_from=top, status="finished")
    child = world.insert_job(spawned_from=root, status="finished")
    leaf, sibling = world.insert_job(spawned_from=child), world.insert_job(spawned_from=top)
    itself = world.insert_job(spawned_from=leaf)
    world.rows("UPDATE job SET spawned_from = :id WHERE id = :id", id=itself)  # no end to it
    world.rows("UPDATE job SET spawned_from = :leaf WHERE id = :top", leaf=leaf, top=sibling)

    cancel(world, subtree_of=root)

    assert statuses(world, top, root, child, leaf) == ["queued", "finished", "finished", "cancelled"]
    assert statuses(world, sibling, itself) == ["cancelled", "queued"]


def test_a_cycle_of_jobs_terminates(world: World) -> None:
    """Each job of the cycle is cancelled once."""
    one, two = world.insert_job(), world.insert_job()
    world.rows("UPDATE job SET spawned_from = CASE id WHEN :one THEN :two ELSE :one END", one=one, two=two)

    cancel(world, subtree_of=one)

    assert statuses(world, one, two) == ["cancelled", "cancelled"]
    assert len(world.events("job_updated")) == 2


def test_large_selections_are_cancelled_in_chunks(world: World) -> None:
    """Chunks of a thousand jobs follow until none is left; each job has one event."""
    world.jobs(1003)

    cancel(world, account_id="acc", reason="enough")

    assert world.rows("SELECT status, count(*) FROM job GROUP BY 1") == [("cancelled", 1003)]
    assert world.rows("SELECT status, error, count(*) FROM job_queue GROUP BY 1, 2") == [
        ("failed", "cancelled", 1003)
    ]
    assert len({e.job_id for e in world.events("job_updated")}) == len(world.events("job_updated")) == 1003
    assert world.scalar("SELECT count(DISTINCT xid) FROM dispatch_event WHERE type = 'job_updated'") == 2


def test_a_cancel_interrupted_between_chunks_continues_on_redelivery(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All selected jobs are cancelled in the end; jobs that are submitted after that are not."""
    monkeypatch.setattr(selections, "CHUNK_JOBS", 3)
    monkeypatch.setattr(chunks, "TIME_LIMIT_S", 0)
    message = str(ULID())
    world.jobs(10)
    for cancelled in (3, 6, 9, 10):
        world.deliver("jobs.cancel", message, account_id="acc")
        assert world.scalar("SELECT count(*) FROM job WHERE status = 'cancelled'") == cancelled

    world.jobs(5)
    world.deliver("jobs.cancel", message, account_id="acc")

    assert world.scalar("SELECT count(*) FROM job WHERE status = 'cancelled'") == 10


def test_later_frames_of_a_cancelled_attempt_are_stale(world: World) -> None:
    """They are counted as stale and change nothing: the job stays cancelled, and the slot is freed once."""
    crawler, (order,) = world.crawler_with_jobs()
    crawler.sends("job_started", order)
    crawler.sends("heartbeat", activeJobs=[order])
    (job_id,) = [id_ for (id_,) in world.rows("SELECT id FROM job")]
    cancel(world, job_ids=[job_id])
    events_before, progress = len(world.events("job_updated")), world.job(job_id).progress

    crawler.sends("job_progress", order, stage="fetching", entityType="issue", processed=1)
    crawler.sends("job_completed", order)
    crawler.fails(order)

    (attempt,) = world.attempts(job_id)
    assert (attempt.status, attempt.stale_words) == ("cancelled", 3)
    assert (world.job(job_id).status, world.job(job_id).progress) == ("cancelled", progress)
    assert world.entry(job_id).status == "failed"
    assert len(world.errors(job_id)) == 1
    assert len(world.events("job_updated")) == events_before
    assert crawler.row().active_jobs == []
    assert world.rejections() == []


def test_a_cancel_delivered_twice_has_the_effect_of_one(world: World) -> None:
    """Jobs that were submitted since continue."""
    world.crawler_with_jobs(2)
    message = str(ULID())
    cancel(world, message, account_id="acc")
    (later,) = world.jobs(1)
    before = world.snapshot()

    cancel(world, message, account_id="acc")

    assert world.snapshot() == before
    assert world.job(later).status == "queued"


@pytest.mark.parametrize(
    "selection",
    [{}, {"job_ids": []}, {"area": "a", "account_id": "acc"}, {"account_id": ""}, {"everything": True}],
)
def test_an_invalid_selection_is_rejected(world: World, selection: dict[str, Any]) -> None:
    """A selection is exactly one of ids, account, area and subtree; anything else cancels nothing."""
    world.jobs(1)

    cancel(world, **selection)

    assert world.rejections() == [("jobs.cancel", "invalid")]
    assert world.rows("SELECT status FROM job") == [("queued",)]


def test_a_cancel_concurrent_with_a_round_leaves_no_live_attempt(world: World) -> None:
    """In many repetitions with real commits no cancelled job has a live attempt, and its slot is free."""
    crawler = world.crawler(capacity=4)
    for _ in range(40):
        ids = world.jobs(4)
        threads = [world.in_thread(world.assign), world.in_thread(partial(cancel, world, job_ids=ids[1:]))]
        for thread in threads:
            thread.join()

        assert statuses(world, *ids) == ["queued", "cancelled", "cancelled", "cancelled"]
        assert [world.entry(job_id).status for job_id in ids[1:]] == ["failed"] * 3
        live = "SELECT web_app_job_id FROM job_assignment_mapping WHERE status IN ('assigned', 'running')"
        assert set(world.rows(live)) <= {(ids[0],)}
        assert crawler.row().active_jobs == crawler.orders()
        cancel(world, job_ids=ids[:1])
    assert world.rejections() == []
