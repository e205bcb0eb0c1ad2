"""The assignment round: which jobs are assigned where, how fairly, each once, and none left behind."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import pytest
from sqlalchemy import text

from persistence.db.engine import engine
from persistence.unit_of_work import UnitOfWork
from support.depth import deep
from support.worlds.world import World
from tasks.assign import rounds
from tasks.runtime.unit import unit_of_work


def test_a_queued_job_is_assigned_to_a_free_slot(world: World) -> None:
    """Attempt, entry, connection and event show it; the job itself stays queued until job_started."""
    (job_id,) = world.jobs(1)
    crawler = world.crawler()

    world.assign()

    (attempt,) = world.attempts(job_id)
    assert (attempt.status, attempt.connection_id) == ("assigned", crawler.id)
    assert world.entry(job_id).status == "processing"
    assert crawler.row().active_jobs == [attempt.crawler_job_id]
    assert world.job(job_id).status == "queued"
    assert [event.payload for event in world.events("job_assigned")] == [
        {"crawler_job_id": attempt.crawler_job_id}
    ]


def test_no_connection_gets_more_than_its_capacity(world: World) -> None:
    """Jobs without a slot stay pending; the least used connection is filled first."""
    world.jobs(10)
    small, large = world.crawler(capacity=2), world.crawler(capacity=4)

    world.assign()

    assert (len(small.orders()), len(large.orders())) == (2, 4)
    assert world.scalar("SELECT count(*) FROM job_queue WHERE status = 'pending'") == 4


def test_a_slot_that_the_crawler_reports_as_used_is_not_free(world: World) -> None:
    """The free slots are the capacity less the greater of live attempts and reported jobs."""
    crawler = world.crawler(capacity=3)
    crawler.sends("heartbeat", activeJobs=2)
    world.jobs(3)

    world.assign()

    assert len(crawler.orders()) == 1


def test_a_disconnected_connection_gets_no_new_jobs(world: World) -> None:
    """It keeps its jobs until the next sweep, and gets no new ones."""
    crawler = world.crawler()
    world.deliver("connections.disconnect", connection_id=crawler.id)
    world.jobs(1)

    world.assign()

    assert crawler.orders() == []


def test_one_slot_alternates_between_a_large_and_a_small_account(world: World) -> None:
    """Ties go to the account that was served least recently, never to priority or age."""
    world.account("small")
    world.jobs(300, priority=9)
    world.jobs(10, account_id="small")
    crawler = world.crawler(capacity=1)
    served = []
    for _ in range(20):
        world.assign()
        (order,) = crawler.orders()
        served.append(world.scalar("SELECT account_id FROM crawler_order"))
        crawler.sends("job_completed", order)

    assert sorted(served) == ["acc"] * 10 + ["small"] * 10
    assert all(one != next_ for one, next_ in pairwise(served))


def test_slots_are_shared_fairly_between_accounts(world: World) -> None:
    """Live attempts count: the account with fewer is served until both have the same number."""
    world.account("other")
    world.jobs(50)
    first = world.crawler(capacity=4)
    world.assign()
    world.jobs(50, account_id="other")
    second = world.crawler(capacity=8)

    world.assign()

    live = Counter(account for (account,) in world.rows("SELECT account_id FROM crawler_order"))
    assert live == {"acc": 6, "other": 6}
    assert len(first.orders()) == 4
    assert len(second.orders()) == 8


def test_within_an_account_jobs_are_ordered_by_priority_then_age(world: World) -> None:
    """Higher priority comes first, then the older job."""
    low, high, older = (world.jobs(1, priority=p)[0] for p in (1, 5, 5))
    world.rows(
        "UPDATE job_queue SET scheduled_at = scheduled_at - interval '1 hour' WHERE web_app_job_id = :id",
        id=older,
    )
    crawler = world.crawler(capacity=1)
    served = []
    for _ in range(3):
        world.assign()
        (order,) = crawler.orders()
        served.append(
            world.scalar(
                "SELECT web_app_job_id FROM job_assignment_mapping WHERE crawler_job_id = :o", o=order
            )
        )
        crawler.sends("job_completed", order)

    assert served == [older, high, low]


def test_a_full_host_does_not_block_other_jobs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cap of a host applies before slots are shared out."""
    monkeypatch.setenv("CRAWLYARD_HOST_CAP", "2")
    world.reload_settings()
    world.jobs(20, gitlab_host="full.example.org", priority=9)
    world.jobs(3, gitlab_host="free.example.org", account_id=world.account("other"))
    crawler = world.crawler(capacity=10)

    world.assign()

    hosts = Counter(host for (host,) in world.rows('SELECT "gitlabUrl" FROM crawler_order'))
    assert hosts == {"https://full.example.org": 2, "https://free.example.org": 2}
    assert len(crawler.orders()) == 4


def test_the_account_cap_holds_under_concurrent_rounds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rounds run at once, an account never has more live attempts than its cap."""
    monkeypatch.setenv("CRAWLYARD_ACCOUNT_CAP", "7")
    world.reload_settings()
    world.account("other")
    world.jobs(50)
    world.jobs(5, account_id="other")
    for _ in range(4):
        world.crawler(capacity=10)

    at_once(4, world.assign)

    live = Counter(account for (account,) in world.rows("SELECT account_id FROM crawler_order"))
    assert live == {"acc": 7, "other": 5}


def test_concurrent_rounds_assign_each_job_once_and_strand_none(world: World) -> None:
    """In many rounds with real commits, each job gets one attempt, and none waits beside a free slot unnoticed."""
    random_ = random.Random(4)
    for _ in range(40 if deep() else 12):
        crawler = world.crawler(capacity=20)
        counts = iter([random_.randint(1, 3) for _ in range(3)])

        def submit_and_assign(counts: Iterator[int] = counts) -> None:
            world.jobs(next(counts))
            world.assign()

        world.published.messages.clear()
        at_once(3, submit_and_assign)
        world.published.messages = [
            message for message in world.published.messages if message[0] == "jobs.assign"
        ][3:]  # less the submits'
        while world.published.of("jobs.assign"):
            world.published.messages.clear()
            world.assign()

        assert world.scalar("SELECT count(*) FROM job_queue WHERE status = 'pending'") == 0
        for order in crawler.orders():
            crawler.sends("job_completed", order)
        world.deliver("connections.disconnect", connection_id=crawler.id)
    assert world.scalar("SELECT count(*) FROM job_assignment_mapping") == world.scalar(
        "SELECT count(*) FROM job"
    )


def test_a_round_checks_for_new_requests_after_its_commit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another round was requested while it ran, it publishes one."""

    def assign_while_another_round_is_requested(uow: UnitOfWork) -> int:
        other = world.in_thread(partial(rounds._acquire_round, visiting))
        other.join()
        return 0

    with unit_of_work() as visiting:
        monkeypatch.setattr(rounds, "assign_jobs", assign_while_another_round_is_requested)
        world.assign()

    assert world.published.of("jobs.assign") == [{}]
    monkeypatch.setattr(rounds, "assign_jobs", lambda _: 0)
    world.published.messages.clear()
    world.assign()
    assert world.published.messages == []


def test_a_round_requested_during_another_is_not_lost(world: World) -> None:
    """A task that does not get the lock requests a round from the one that has it."""
    world.jobs(1)
    world.crawler()
    with engine().connect() as other:
        other.execute(text("SELECT pg_advisory_xact_lock(hashtext('crawlyard_assign'))"))
        before = other.execute(text("SELECT last_value, is_called FROM assign_bell")).one()
        world.assign()
        after = other.execute(text("SELECT last_value, is_called FROM assign_bell")).one()
        other.rollback()

    assert before != after
    assert world.rows("SELECT * FROM crawler_order") == []


def test_a_job_cancelled_by_the_web_app_is_not_assigned(world: World) -> None:
    """Its status is checked again under the lock, and its entry leaves the queue."""
    cancelled, paused, other = world.jobs(3)
    world.rows("UPDATE job SET status = 'cancelled' WHERE id = :id", id=cancelled)
    world.rows("UPDATE job SET status = 'paused' WHERE id = :id", id=paused)
    crawler = world.crawler(capacity=3)

    world.assign()

    assert len(crawler.orders()) == 1
    assert len(world.attempts(other)) == 1
    assert (world.entry(cancelled).status, world.entry(cancelled).error) == ("failed", "cancelled")
    assert (world.entry(paused).status, world.entry(paused).held) == ("pending", True)


def test_a_backed_off_job_waits_until_it_is_due(world: World) -> None:
    """Then the next round marks it ready and assigns it."""
    crawler, (order,) = world.crawler_with_jobs()
    crawler.fails(order)
    world.assign()
    assert crawler.orders() == []

    world.rows("UPDATE job_queue SET scheduled_at = clock_timestamp()")
    world.assign()

    assert len(crawler.orders()) == 1


def test_a_short_queue_leaves_its_turns_to_the_others(world: World) -> None:
    """However few live attempts its account has, no slot stays free while another account waits."""
    world.account("small")
    world.jobs(30)
    world.crawler(capacity=10)
    world.assign()
    world.jobs(1, account_id="small")
    crawler = world.crawler(capacity=9)

    world.assign()

    assert len(crawler.orders()) == 9


def test_many_suspects_reserve_one_connection_only(world: World) -> None:
    """The healthy jobs of all accounts are assigned to the others."""
    world.account("sick")
    crawlers = [world.crawler(capacity=5) for _ in range(3)]
    world.jobs(3)
    world.assign()
    world.jobs(20, account_id="sick")
    world.rows("UPDATE job_queue SET losses = 2 WHERE account_id = 'sick'")
    world.jobs(20)

    world.assign()

    assert sorted(len(crawler.orders()) for crawler in crawlers) == [1, 5, 5]


def test_a_job_moved_to_another_account_is_assigned_for_that_account(world: World) -> None:
    """The new account's queue, cap and token count."""
    (job_id,) = world.jobs(1)
    world.account("other")
    world.rows("""UPDATE job SET "accountId" = 'other'""")
    crawler = world.crawler()

    world.assign()
    world.assign()
    world.deliver("jobs.enqueue", job_ids=[job_id])  # the round has published it: it binds the account
    world.assign()

    assert world.published.of("jobs.enqueue") == [{"job_ids": [job_id]}]
    assert len(crawler.orders()) == 1
    assert world.scalar("SELECT account_id FROM crawler_order") == "other"
    assert world.entry(job_id).account_id == "other"


def test_a_suspect_is_assigned_alone(world: World) -> None:
    """A job that was lost twice in a row gets an empty connection to itself, also in later rounds."""
    busy, _ = world.crawler_with_jobs()
    world.rows("UPDATE socket_connection SET capacity = 5")
    (suspect,) = world.jobs(1, priority=9)
    world.rows("UPDATE job_queue SET losses = 2 WHERE web_app_job_id = :id", id=suspect)
    empty = world.crawler()
    world.jobs(6)

    world.assign()
    world.assign()

    assert [a.connection_id for a in world.attempts(suspect)] == [empty.id]
    assert len(empty.orders()) == 1
    assert len(busy.orders()) == 5


def test_a_suspect_waits_for_an_empty_connection_without_blocking_others(world: World) -> None:
    """If no connection is empty, the least used one is kept from being filled."""
    filling = world.jobs(2)
    one, two = world.crawler(capacity=2), world.crawler(capacity=2)
    world.assign()
    (suspect,) = world.jobs(1, priority=9)
    world.rows("UPDATE job_queue SET losses = 2 WHERE web_app_job_id = :id", id=suspect)
    world.jobs(5)

    world.assign()

    drained, filled = sorted((one, two), key=lambda crawler: len(crawler.orders()))
    assert (len(drained.orders()), len(filled.orders())) == (1, 2)
    drained.sends("job_completed", drained.orders()[0])
    world.assign()
    assert [a.connection_id for a in world.attempts(suspect)] == [drained.id]
    assert len(drained.orders()) == 1
    assert len(filling) == 2


def test_an_entry_whose_job_has_a_live_attempt_is_repaired_and_blocks_nothing(world: World) -> None:
    """The pending entry is marked as processing, and the round continues."""
    crawler, _ = world.crawler_with_jobs()
    world.rows("UPDATE job_queue SET status = 'pending'")
    living = world.scalar("SELECT id FROM job")
    (other,) = world.jobs(1)
    world.crawler()

    world.assign()

    assert len(crawler.orders()) == 1
    assert [len(world.attempts(job_id)) for job_id in (living, other)] == [1, 1]
    assert world.scalar("SELECT count(*) FROM job_queue WHERE status = 'pending'") == 0


def at_once(count: int, action: Callable[[], None]) -> None:
    """Run *action* in *count* threads at once."""
    failures = []

    def run() -> None:
        try:
            action()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_round_is_bounded_and_publishes_another(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction assigns a bounded number of jobs, and leaves the rest to the next round."""
    monkeypatch.setattr(rounds, "ROUND_LIMIT", 3)
    world.jobs(5)
    crawler = world.crawler(capacity=9)
    for assigned, messages in ((3, [{}]), (5, [])):
        world.published.messages.clear()
        world.assign()
        assert len(crawler.orders()) == assigned
        assert world.published.of("jobs.assign") == messages
