"""`claim_from`, how far back rounds look: a hint that hides no entry for longer than until the next reconcile."""

from datetime import timedelta

import pytest

from support.worlds.world import World

BEHIND = timedelta(seconds=10)


def claim_from(world: World, account_id: str = "acc") -> str:
    """As text, since Python has no infinite datetime."""
    return str(
        world.scalar("SELECT claim_from::text FROM account_lane WHERE account_id = :id", id=account_id)
    )


def reconcile(world: World) -> None:
    """Let reconcile record how old the oldest waiting entry is."""
    world.rows("DELETE FROM periodic_ring")
    world.deliver("upkeep.reconcile")


def age(world: World, job_id: str, interval: str) -> None:
    """Make a job older by *interval*."""
    world.rows(
        "UPDATE job_queue SET scheduled_at = scheduled_at - CAST(:interval AS interval) WHERE web_app_job_id = :id",
        id=job_id,
        interval=interval,
    )


def test_an_account_queue_is_created_with_its_first_entry_and_no_bound(world: World) -> None:
    """The next round serves a new account."""
    world.account("new")
    (job_id,) = world.jobs(1, account_id="new")
    assert claim_from(world, "new") == "-infinity"
    age(world, job_id, "1 year")
    crawler = world.crawler()
    world.assign()
    assert len(crawler.orders()) == 1


def test_reconcile_records_the_oldest_waiting_entry_of_each_account(world: World) -> None:
    """Any host and priority counts; the bound is a little earlier, for transactions that commit late."""
    world.account("other")
    urgent, oldest, _ = world.jobs(3, priority=5)[0], *world.jobs(2)
    world.jobs(1, account_id="other")
    age(world, oldest, "2 hours")
    age(world, urgent, "1 hour")

    reconcile(world)

    [(first, second)] = world.rows(
        "SELECT a.claim_from, o.claim_from FROM account_lane a, account_lane o"
        " WHERE a.account_id = 'acc' AND o.account_id = 'other'"
    )
    assert first == world.entry(oldest).scheduled_at - BEHIND
    assert first < second < world.now()


def test_the_bound_of_an_empty_account_follows_its_last_assignment(world: World) -> None:
    """It is written once, not in every reconcile."""
    world.crawler_with_jobs(1)
    reconcile(world)
    once = claim_from(world)
    assert once != "-infinity"
    world.rows("UPDATE account_lane SET last_seated_at = last_seated_at - interval '1 minute'")
    reconcile(world)
    assert claim_from(world) == once


def test_reconcile_finds_entries_older_than_the_bound(world: World) -> None:
    """A very long transaction, or a clock set back, hides a job until the next reconcile at most."""
    world.jobs(1)
    reconcile(world)
    (late,) = world.jobs(1)
    age(world, late, "1 hour")
    crawler = world.crawler()
    world.assign()
    assert (len(crawler.orders()), len(world.attempts(late))) == (1, 0)

    reconcile(world)
    world.assign()

    assert len(world.attempts(late)) == 1


@pytest.mark.parametrize("back", ["unparked", "readied", "moved"])
def test_a_returning_entry_is_not_older_than_the_bound(world: World, back: str) -> None:
    """An entry that was unparked, became due or moved to another account is assigned at once, although it is old."""
    (job_id,) = world.jobs(1)
    if back == "unparked":
        world.deliver("jobs.pause", job_ids=[job_id])
    age(world, job_id, "1 hour")
    owner = "acc"
    if back == "readied":
        world.rows("UPDATE job_queue SET ready = false WHERE web_app_job_id = :id", id=job_id)
    if back == "moved":
        owner = world.account("other")
    world.jobs(2, account_id=owner)
    reconcile(world)

    if back == "unparked":
        world.deliver("jobs.resume", job_ids=[job_id])
    if back == "moved":
        world.rows("""UPDATE job SET "accountId" = 'other' WHERE id = :id""", id=job_id)
        world.deliver("upkeep.reconcile", more=True)
    crawler = world.crawler(capacity=1)
    world.assign()

    assert len(world.attempts(job_id)) == 1
    assert len(crawler.orders()) == 1
