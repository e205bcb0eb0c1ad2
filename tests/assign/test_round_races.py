"""The round waits for no lock, lets no stuck entry hide others, and loses no request for another round."""

import pytest
from sqlalchemy import text

from persistence.db.engine import engine
from persistence.fleet.round_lock import RoundLock
from persistence.unit_of_work import UnitOfWork
from support.meanwhile import held, once
from support.worlds.world import World
from tasks.assign import rounds
from tasks.runtime.unit import unit_of_work

LOCKED_BY_A_PEER = {
    "an entry": "SELECT FROM job_queue WHERE web_app_job_id = :id",
    "a job": "SELECT FROM job WHERE id = :id",
    "a backed-off entry": "SELECT FROM job_queue WHERE web_app_job_id = :id",
    "the account queue": "SELECT FROM account_lane WHERE account_id <> :id",
}


@pytest.mark.parametrize("what", LOCKED_BY_A_PEER)
def test_a_round_waits_for_no_lock(world: World, what: str) -> None:
    """What a peer has locked is left to the next round; everything else is assigned."""
    locked, free = world.jobs(2)
    if what == "a backed-off entry":
        world.rows("UPDATE job_queue SET ready = false WHERE web_app_job_id = :id", id=locked)
    crawler = world.crawler(capacity=2)

    with held(LOCKED_BY_A_PEER[what], id=locked):
        world.assign()
        assert len(world.attempts(free)) == 1
        assert len(world.attempts(locked)) == (what == "the account queue")

    world.assign()
    assert len(crawler.orders()) == 2


def test_a_round_skips_a_locked_connection(world: World) -> None:
    """A heartbeat locks it for a moment; the next round finds it."""
    beating, other = world.crawler(capacity=1), world.crawler(capacity=1)
    world.jobs(2)

    with held("SELECT FROM socket_connection WHERE id = :id", id=beating.id):
        world.assign()
        assert (len(beating.orders()), len(other.orders())) == (0, 1)

    world.assign()
    assert len(beating.orders()) == 1


def test_jobs_locked_by_a_peer_do_not_hide_others(world: World) -> None:
    """They stay at the head of their queue, so the next claim asks for that many more."""
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
    """A queue with a claimable entry may contain others that are not claimable."""
    waiting, other = world.jobs(2)
    world.rows(f"UPDATE job_queue SET {change} WHERE web_app_job_id = :id", id=waiting)
    world.crawler(capacity=2)

    world.assign()

    assert (len(world.attempts(waiting)), len(world.attempts(other))) == (0, 1)


def test_a_round_requested_just_after_another_ended_runs_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other round may have missed its request, so it tries the lock once more."""
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
    """The requests are read after the commit, since until then no other round can get the lock."""
    commit, requests = UnitOfWork.commit, [None]

    def commit_after_a_request(uow: UnitOfWork) -> None:
        while requests:
            requests.pop()
            world.in_thread(request).join()
        commit(uow)

    def request() -> None:
        with unit_of_work() as uow:
            assert not rounds._acquire_round(uow)

    monkeypatch.setattr(UnitOfWork, "commit", commit_after_a_request)

    world.assign()

    assert world.published.of("jobs.assign") == [{}]
