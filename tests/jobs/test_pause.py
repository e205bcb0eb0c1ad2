"""jobs.pause and jobs.resume: a paused job has no live attempt, and its counters are kept."""

from functools import partial
from typing import Any

import pytest
from ulid import ULID

from support.worlds.stages import STAGES, at_every_stage, stand
from support.worlds.world import World
from tasks.jobs import selections
from tasks.jobs.locking import lock_jobs


def pause(world: World, message: str | None = None, **selection: Any) -> None:
    """Deliver jobs.pause."""
    world.deliver("jobs.pause", message, **selection)


def resume(world: World, message: str | None = None, **selection: Any) -> None:
    """Deliver jobs.resume."""
    world.deliver("jobs.resume", message, **selection)


def test_waiting_and_running_jobs_are_paused(world: World) -> None:
    """Their entries are parked; jobs that wait for something else or have ended are left as they are."""
    jobs = at_every_stage(world)

    pause(world, job_ids=[*jobs.values(), str(ULID())])

    meant = ("pending", "assigned", "running", "backed off")
    expected = STAGES | dict.fromkeys(meant, ("paused", "pending", True))
    assert {stage: stand(world, job_id) for stage, job_id in jobs.items()} == expected
    told = [
        (e.job_id, e.account_id) for e in world.events("job_updated") if e.payload == {"status": "paused"}
    ]
    assert sorted(told) == sorted((jobs[stage], "acc") for stage in meant)
    assert world.rejections() == []


def test_a_requeued_job_paused_at_once_starts_with_clean_counts(world: World) -> None:
    """A job that the web app queued again, and that is paused before it is enqueued, has all counters at 0."""
    crawler, (order,) = world.crawler_with_jobs()
    (job_id,) = (a.web_app_job_id for a in world.rows("SELECT web_app_job_id FROM job_assignment_mapping"))
    crawler.fails(order, recoverable=False)
    world.rows("UPDATE job SET status = 'queued' WHERE id = :id", id=job_id)

    pause(world, job_ids=[job_id])
    resume(world, job_ids=[job_id])

    entry = world.entry(job_id)
    assert (entry.status, entry.held, entry.ready, entry.attempts) == ("pending", False, True, 0)


@pytest.mark.parametrize("stage", ["assigned", "running"])
def test_a_paused_jobs_attempt_is_cancelled(world: World, stage: str) -> None:
    """An error gives the reason; no loss is counted, and the order is gone."""
    job_id = at_every_stage(world)[stage]

    pause(world, job_ids=[job_id], reason="the instance is being upgraded")

    (attempt,) = world.attempts(job_id)
    assert (attempt.status, attempt.completed_at is None) == ("cancelled", False)
    (error,) = world.errors(job_id)
    assert (error.error_type, error.error_message) == ("Cancelled", "the instance is being upgraded")
    revoked = [e for e in world.events("job_revoked") if e.job_id == job_id]
    assert [e.payload["reason"] for e in revoked] == ["Cancelled"]
    entry = world.entry(job_id)
    assert (entry.attempts, entry.losses, entry.goodbyes, entry.settled_at) == (0, 0, 0, None)
    assert world.rows("SELECT 1 FROM crawler_order WHERE crawler_job_id = :f", f=attempt.crawler_job_id) == []
    assert world.published.messages == [("jobs.assign", {})]


def test_a_paused_job_is_not_assigned_until_it_is_resumed(world: World) -> None:
    """Reconcile does not change it either; after it is resumed, the next round assigns it."""
    (job_id,) = world.jobs(1)
    pause(world, job_ids=[job_id])
    crawler = world.crawler()
    world.assign()
    world.deliver("upkeep.reconcile")
    assert (crawler.orders(), stand(world, job_id)) == ([], ("paused", "pending", True))
    world.published.messages.clear()

    resume(world, job_ids=[job_id])

    assert world.published.messages == [("jobs.assign", {})]
    world.assign()
    assert [a.connection_id for a in world.attempts(job_id)] == [crawler.id]


def test_only_paused_jobs_are_resumed(world: World) -> None:
    """Jobs that the web app paused are resumed too; nothing else changes."""
    jobs = at_every_stage(world)
    events_before = len(world.events("job_updated"))

    resume(world, job_ids=list(jobs.values()))

    expected = STAGES | {"paused": ("queued", "pending", False)}
    assert {stage: stand(world, job_id) for stage, job_id in jobs.items()} == expected
    assert [(e.job_id, e.payload) for e in world.events("job_updated")[events_before:]] == [
        (jobs["paused"], {"status": "queued"})
    ]
    assert world.published.messages == [("jobs.assign", {})]


def test_a_paused_and_resumed_job_keeps_its_counts(world: World) -> None:
    """It keeps its failures and the time before which it is not retried."""
    job_id = at_every_stage(world)["backed off"]
    before = world.entry(job_id)
    assert (before.attempts, before.ready) == (1, False)

    pause(world, job_ids=[job_id])
    resume(world, job_ids=[job_id])

    assert world.entry(job_id) == before
    assert world.job(job_id).status == "queued"


def test_a_running_job_just_paused_by_the_web_app_resumes_in_place(world: World) -> None:
    """If it is resumed before reconcile has seen the pause, its attempt stays live and its frames apply."""
    crawler, (order,) = world.crawler_with_jobs()
    crawler.sends("job_started", order)
    job_id = world.scalar("SELECT id FROM job")
    world.rows("UPDATE job SET status = 'paused'")

    resume(world, job_ids=[job_id])

    assert crawler.orders() == [order]
    crawler.sends("job_completed", order)
    assert stand(world, job_id) == ("finished", "completed", False)
    assert world.errors(job_id) == []


def test_a_job_that_ended_while_paused_runs_again_when_resumed(world: World) -> None:
    """The web app's `paused` won over the crawler's completion; then the job is queued again."""
    crawler, (order,) = world.crawler_with_jobs()
    job_id = world.scalar("SELECT id FROM job")
    world.rows("UPDATE job SET status = 'paused'")
    crawler.sends("job_completed", order)
    assert stand(world, job_id) == ("paused", "completed", False)

    resume(world, job_ids=[job_id])

    assert stand(world, job_id) == ("queued", "pending", False)


def test_a_job_without_an_entry_is_paused_and_resumed_too(world: World) -> None:
    """The web app inserted it and never published it: once paused, reconcile does not queue it, but resume does."""
    job_id = world.insert_job()
    pause(world, job_ids=[job_id])
    world.deliver("upkeep.reconcile")
    assert (world.job(job_id).status, world.rows("SELECT 1 FROM job_queue")) == ("paused", [])

    resume(world, job_ids=[job_id])

    assert stand(world, job_id) == ("queued", "pending", False)


def test_pause_and_resume_delivered_twice_have_the_effect_of_one(world: World) -> None:
    """A redelivered pause does not undo a later resume, nor the other way round."""
    (job_id,) = world.jobs(1)
    paused, resumed = str(ULID()), str(ULID())
    pause(world, paused, job_ids=[job_id])
    resume(world, resumed, job_ids=[job_id])

    pause(world, paused, job_ids=[job_id])
    assert world.job(job_id).status == "queued"

    pause(world, job_ids=[job_id])
    resume(world, resumed, job_ids=[job_id])
    assert world.job(job_id).status == "paused"


def test_an_end_written_by_the_web_app_wins_over_a_concurrent_pause(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written between the read and the lock: the job stays cancelled, and reconcile settles the rest."""
    (job_id, other) = world.jobs(2)

    def slow(*arguments: Any) -> Any:
        world.rows("UPDATE job SET status = 'cancelled' WHERE id = :id", id=job_id)
        return lock_jobs(*arguments)

    monkeypatch.setattr("tasks.jobs.pause.lock_jobs", slow)
    pause(world, job_ids=[job_id, other])

    assert stand(world, job_id) == ("cancelled", "pending", False)
    assert stand(world, other) == ("paused", "pending", True)
    assert [e.job_id for e in world.events("job_updated")] == [other]
    world.deliver("upkeep.reconcile")
    assert stand(world, job_id) == ("cancelled", "failed", False)


@pytest.mark.parametrize("verb", [pause, resume])
def test_a_large_selection_is_paused_in_chunks(
    world: World, monkeypatch: pytest.MonkeyPatch, verb: Any
) -> None:
    """Each job is paused once, in several transactions."""
    monkeypatch.setattr(selections, "CHUNK_JOBS", 4)
    ids = world.jobs(10)
    if verb is resume:
        pause(world, job_ids=ids)
    events_before = len(world.events("job_updated"))

    verb(world, area="group")

    events = world.events("job_updated")[events_before:]
    assert sorted(e.job_id for e in events) == sorted(ids)
    assert len({e.xid for e in events}) == 3


def test_a_pause_and_a_concurrent_completion_do_not_both_apply(world: World) -> None:
    """In many repetitions with real commits a job is finished with a completed entry, or paused with a parked one."""
    outcomes = set()
    for _ in range(25):
        crawler, (order,) = world.crawler_with_jobs()
        (job_id,) = world.row(
            "SELECT web_app_job_id FROM job_assignment_mapping WHERE crawler_job_id = :o", o=order
        )
        threads = [
            world.in_thread(partial(pause, world, job_ids=[job_id])),
            world.in_thread(partial(crawler.sends, "job_completed", order)),
        ]
        for thread in threads:
            thread.join()
        outcomes.add(stand(world, job_id))
        assert crawler.orders() == crawler.row().active_jobs == []
        world.deliver("connections.disconnect", connection_id=crawler.id)
    assert outcomes <= {("finished", "completed", False), ("paused", "pending", True)}
    assert world.rejections() == []
