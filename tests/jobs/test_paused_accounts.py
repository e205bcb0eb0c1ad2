"""A paused account: no job of it is assigned, no attempt is live, and no row of a job is rewritten."""

from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from ulid import ULID

from persistence.jobs.account_queues import AccountQueues
from support.crashes import Killed
from support.worlds.stages import STAGES, at_every_stage, stand
from support.worlds.world import World
from tasks.assign.rounds import assign_jobs
from tasks.jobs import accounts
from tasks.runtime import chunks
from tasks.runtime.unit import unit_of_work

LIVE = "SELECT account_id FROM job_assignment_mapping WHERE status IN ('assigned', 'running')"


def pause(world: World, message: str | None = None, account: str = "acc", **payload: Any) -> None:
    """Deliver jobs.pause for an account."""
    world.deliver("jobs.pause", message, account_id=account, **payload)


def resume(world: World, message: str | None = None, account: str = "acc") -> None:
    """Deliver jobs.resume for an account."""
    world.deliver("jobs.resume", message, account_id=account)


def reconcile(world: World) -> None:
    """Deliver upkeep.reconcile, long after the last time."""
    world.rows("UPDATE periodic_ring SET rung_at = rung_at - interval '1 hour'")
    world.published.messages.clear()
    world.deliver("upkeep.reconcile")


def pause_of(world: World, account: str = "acc") -> tuple[bool, str | None]:
    """Whether the account is paused, and the reason."""
    row = world.row("SELECT * FROM account_lane WHERE account_id = :account", account=account)
    return row.paused_at is not None, row.paused_reason


def test_pausing_an_account_changes_only_its_live_attempts(world: World) -> None:
    """The jobs of these attempts wait again, with nothing counted; the rows of all other jobs are unchanged."""
    jobs = at_every_stage(world)
    rows = "SELECT xmin::text, id FROM job UNION ALL SELECT xmin::text, web_app_job_id FROM job_queue ORDER BY 2, 1"
    before = world.rows(rows)
    live = (jobs["assigned"], jobs["running"])
    events_before = len(world.events("job_updated"))

    pause(world, reason="its owner asked for it")

    waiting = dict.fromkeys(("assigned", "running"), ("queued", "pending", False))
    assert {stage: stand(world, job_id) for stage, job_id in jobs.items()} == STAGES | waiting
    assert {row.id for row in set(world.rows(rows)) - set(before)} == set(live)
    assert [[e.error_message for e in world.errors(id_)] for id_ in live] == [["its owner asked for it"]] * 2
    assert [(e.attempts, e.losses) for e in map(world.entry, live)] == [(0, 0)] * 2
    assert [(e.job_id, e.payload) for e in world.events("job_updated")[events_before:]] == [
        (jobs["running"], {"status": "queued"})
    ]
    assert pause_of(world) == (True, "its owner asked for it")
    assert [(e.account_id, e.job_id, e.payload) for e in world.events("account_paused")] == [
        ("acc", None, {"reason": "its owner asked for it"})
    ]


def test_present_and_later_jobs_of_a_paused_account_wait(world: World) -> None:
    """Other accounts are assigned jobs meanwhile; after the resume this account is next."""
    world.account("other")
    (first,) = world.jobs(1)
    pause(world)
    (later,) = world.jobs(1)
    (other,) = world.jobs(1, account_id="other")
    crawler = world.crawler()

    world.assign()
    reconcile(world)

    assert [len(world.attempts(id_)) for id_ in (first, later, other)] == [0, 0, 1]
    assert world.events("account_resumed") == []
    world.published.messages.clear()

    resume(world)

    assert pause_of(world) == (False, None)
    assert [(e.account_id, e.payload) for e in world.events("account_resumed")] == [("acc", {})]
    assert world.published.messages == [("jobs.assign", {})]
    world.assign()
    assert len(crawler.orders()) == 3


def test_individually_paused_jobs_stay_paused(world: World) -> None:
    """Resuming their account does not resume them."""
    one, other = world.jobs(2)
    world.deliver("jobs.pause", job_ids=[one])
    pause(world)

    resume(world)

    assert (stand(world, one)[0], stand(world, other)[0]) == ("paused", "queued")


def test_pausing_or_resuming_twice_adds_no_event(world: World) -> None:
    """The first reason is kept."""
    resume(world)
    pause(world, reason="first")
    pause(world, reason="second")
    assert pause_of(world) == (True, "first")
    resume(world)
    resume(world)

    assert [len(world.events(f"account_{done}")) for done in ("paused", "resumed")] == [1, 1]


def test_a_secret_in_the_reason_is_not_stored(world: World) -> None:
    """It is redacted in the account's row, in the event and in the errors."""
    world.crawler_with_jobs()

    pause(world, reason="curl -H 'PRIVATE-TOKEN: glpat-abcdefghij0123456789' was abused")

    kept = world.rows(
        "SELECT paused_reason FROM account_lane UNION ALL SELECT payload::text FROM dispatch_event"
        " UNION ALL SELECT error_message FROM job_error_log"
    )
    assert [text for (text,) in kept if text and "glpat" in text] == []
    assert pause_of(world)[1] is not None


def test_an_unknown_account_is_rejected(world: World) -> None:
    """A misspelt id is reported as rejected and gets no row in account_lane."""
    pause(world, account="nobody")

    assert world.rejections() == [("jobs.pause", "unknown_account")]
    assert world.rows("SELECT 1 FROM account_lane WHERE account_id = 'nobody'") == []
    assert world.events("account_paused") == []


def test_a_rejection_interrupted_by_a_kill_is_stored_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first chunk rejects the message and marks it processed in one transaction."""

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(accounts, "wait_for_round", die)
        pause(world, "a message", account="nobody")
    pause(world, "a message", account="nobody")

    assert world.rejections() == [("jobs.pause", "unknown_account")]


def test_a_redelivered_pause_does_not_undo_later_changes(world: World) -> None:
    """Neither does a redelivered resume."""
    paused, resumed = str(ULID()), str(ULID())
    pause(world, paused)
    resume(world, resumed)
    pause(world, paused)
    assert pause_of(world) == (False, None)

    pause(world)
    resume(world, resumed)
    assert pause_of(world) == (True, None)


def test_a_pause_interrupted_between_chunks_continues(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is paused from the first chunk on; attempts are revoked a few at a time."""
    monkeypatch.setattr(accounts, "CHUNK_ATTEMPTS", 2)
    monkeypatch.setattr(chunks, "TIME_LIMIT_S", 0)
    world.crawler_with_jobs(5)
    message = str(ULID())

    for left in (3, 1, 0, 0):
        pause(world, message)
        assert (len(world.rows(LIVE)), pause_of(world)[0]) == (left, True)

    assert len(world.events("account_paused")) == 1
    assert len({e.xid for e in world.events("job_revoked")}) == 3


def test_a_round_that_began_before_the_pause_leaves_no_live_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is paused at once; then the task waits for the round and revokes what that assigned."""
    (job_id,) = world.jobs(1)
    world.crawler()
    with unit_of_work() as uow:
        assert uow.round_lock.try_lock()
        queues = uow.account_queues.waiting(timedelta(0))
        paused = world.in_thread(partial(pause, world))
        world.wait_for_lock_waiter()
        assert pause_of(world)[0]
        monkeypatch.setattr(uow.account_queues, "waiting", lambda _margin: queues)
        assert assign_jobs(uow) == 1
        uow.commit()
    paused.join()

    assert [a.status for a in world.attempts(job_id)] == ["cancelled"]
    assert stand(world, job_id) == ("queued", "pending", False)
    assert (
        world.published.of("jobs.assign") != []
    )  # for a round that began while the pause waited, and gave up


def test_concurrent_rounds_and_pauses_leave_no_live_attempt(world: World) -> None:
    """In many repetitions with real commits no attempt of a paused account is live at the end."""
    world.crawler(capacity=50)
    for _ in range(25):
        world.jobs(2)
        threads = [world.in_thread(world.assign), world.in_thread(partial(pause, world))]
        for thread in threads:
            thread.join()
        assert world.rows(LIVE) == []
        resume(world)
    assert world.rejections() == []


def test_reconcile_revokes_live_attempts_of_a_paused_account(world: World) -> None:
    """It completes a pause whose message was lost after the first chunk; other accounts' attempts continue."""
    world.account("other")
    crawler, _ = world.crawler_with_jobs(2)
    other, (kept,) = world.crawler_with_jobs(1, account_id="other")
    world.rows("UPDATE account_lane SET paused_at = now() WHERE account_id = 'acc'")

    reconcile(world)

    assert (crawler.orders(), crawler.row().active_jobs, other.orders()) == ([], [], [kept])
    assert world.published.of("upkeep.reconcile") == [{"more": True}]
    assert world.rows("SELECT status, count(*) FROM job_queue WHERE account_id = 'acc' GROUP BY 1") == [
        ("pending", 2)
    ]
    world.deliver("upkeep.reconcile", more=True)
    assert len(world.events("job_revoked")) == 2


def test_an_account_resumed_meanwhile_keeps_its_attempts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is resumed between the read of its attempts and the lock: they stay live and their frames apply."""
    crawler, orders = world.crawler_with_jobs(2)
    lock = AccountQueues.lock

    def slow(*arguments: Any) -> None:
        world.rows("UPDATE account_lane SET paused_at = NULL")
        lock(*arguments)

    monkeypatch.setattr(AccountQueues, "lock", slow)
    pause(world)

    assert (crawler.orders(), world.events("job_revoked")) == (orders, [])
    crawler.sends("job_completed", orders[0])
    assert world.scalar("SELECT count(*) FROM job WHERE status = 'finished'") == 1


def test_pausing_an_account_does_not_requeue_a_cancelled_job(world: World) -> None:
    """The web app's status wins even if the attempt is revoked for another reason."""
    world.crawler_with_jobs()
    job_id = world.scalar("SELECT id FROM job")
    world.rows("UPDATE job SET status = 'cancelled'")

    pause(world)

    assert stand(world, job_id) == ("cancelled", "failed", False)
    assert world.rows(LIVE) == []


def test_deferred_jobs_are_not_fed_until_the_account_is_resumed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay outside of the queue until the resume, which publishes the task that feeds them."""
    world.rows(
        "INSERT INTO deferred_job (id, account_id, command, full_path, priority, spawned_from)"
        " VALUES ('01KAQ3V1W0000000000000000A', 'acc', 'issues', 'a', 1, 'root')"
    )
    pause(world)
    world.deliver("upkeep.feed_deferred")
    assert world.rows("SELECT 1 FROM job") == []
    world.published.messages.clear()

    resume(world)

    assert world.published.messages == [("jobs.assign", {}), ("upkeep.feed_deferred", {})]
    world.deliver("upkeep.feed_deferred")
    assert world.rows("SELECT full_path FROM job") == [("a",)]
