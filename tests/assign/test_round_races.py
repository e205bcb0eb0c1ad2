"""The pass: it waits for nobody, hides nobody behind those whom it cannot seat, and hears who comes meanwhile."""

import pytest
from sqlalchemy import text

from persistence.db.engine import engine
from persistence.fleet.round_lock import RoundLock
from persistence.unit_of_work import UnitOfWork
from support.meanwhile import held, once
from support.worlds.world import World
from tasks.assign import rounds
from tasks.runtime.unit import unit_of_work

HELD_BY_A_PEER = {
    "an entry": "SELECT FROM job_queue WHERE web_app_job_id = :id",
    "a job": "SELECT FROM job WHERE id = :id",
    "a backed-off entry": "SELECT FROM job_queue WHERE web_app_job_id = :id",
    "the lane": "SELECT FROM account_lane WHERE account_id <> :id",
}


@pytest.mark.parametrize("what", HELD_BY_A_PEER)
def test_a_round_waits_for_no_lock(world: World, what: str) -> None:
    """What a peer holds is left for the next one; all else is seated."""
    locked, free = world.jobs(2)
    if what == "a backed-off entry":
        world.rows("UPDATE job_queue SET ready = false WHERE web_app_job_id = :id", id=locked)
    crawler = world.crawler(capacity=2)

    with held(HELD_BY_A_PEER[what], id=locked):
        world.assign()
        assert len(world.attempts(free)) == 1
        assert len(world.attempts(locked)) == (what == "the lane")

    world.assign()
    assert len(crawler.orders()) == 2


def test_a_round_skips_a_locked_connection(world: World) -> None:
    """A beat holds its row for a moment: it is found by the next ring."""
    beating, other = world.crawler(capacity=1), world.crawler(capacity=1)
    world.jobs(2)

    with held("SELECT FROM socket_connection WHERE id = :id", id=beating.id):
        world.assign()
        assert (len(beating.orders()), len(other.orders())) == (0, 1)

    world.assign()
    assert len(beating.orders()) == 1


def test_jobs_locked_by_a_peer_do_not_hide_others(world: World) -> None:
    """They are at the head of their lane still: so many more are claimed."""
    ids = world.jobs(4)
    world.rows(
        "UPDATE job_queue SET scheduled_at = scheduled_at - interval '1 hour' WHERE web_app_job_id = ANY (:ids)",
        ids=ids[:3],
    )
    crawler = world.crawler(capacity=1)

    with held("SELECT FROM job WHERE id = ANY (:ids)", ids=ids[:3]):
        world.assign()

    assert len(crawler.orders()) == 1
    assert len(world.attempts(ids[3])) == 1


@pytest.mark.parametrize("change", ["ready = false, scheduled_at = now() + interval '1 hour'", "held = true"])
def test_a_job_that_does_not_wait_any_more_is_not_assigned(world: World, change: str) -> None:
    """A lane in which something is claimable may hold what is not."""
    waiting, other = world.jobs(2)
    world.rows(f"UPDATE job_queue SET {change} WHERE web_app_job_id = :id", id=waiting)
    world.crawler(capacity=2)

    world.assign()

    assert (len(world.attempts(waiting)), len(world.attempts(other))) == (0, 1)


def test_a_round_requested_just_after_another_ended_runs_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bell came too late to be heard: it tries the lock once more."""
    world.jobs(1)
    crawler = world.crawler()
    with engine().connect() as holder:
        holder.execute(text("SELECT pg_advisory_xact_lock(hashtext('crawlyard_assign'))"))
        once(monkeypatch, RoundLock, "request_another_round", holder.rollback)
        world.assign()

    assert len(crawler.orders()) == 1


def test_a_round_requested_before_the_commit_of_another_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bell is read after the commit: until then nobody else could have been the pass."""
    commit, visits = UnitOfWork.commit, [None]

    def visited(uow: UnitOfWork) -> None:
        while visits:
            visits.pop()
            world.in_thread(visit).join()
        commit(uow)

    def visit() -> None:
        with unit_of_work() as uow:
            assert not rounds._acquire_round(uow)

    monkeypatch.setattr(UnitOfWork, "commit", visited)

    world.assign()

    assert world.published.of("jobs.assign") == [{}]
