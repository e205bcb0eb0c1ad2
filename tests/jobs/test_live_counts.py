"""Live attempts are counted as they begin and end: a host queue's count is the number of its live attempts."""

import pytest
from sqlalchemy import text

from persistence.db.engine import engine
from persistence.jobs.live_counts import MISCOUNTED
from support.worlds.world import World

HOST = "gitlab.example.org"


def counted(world: World) -> dict[tuple[str, str], int]:
    """The counts that are not 0; they agree with the live attempts."""
    assert world.rows(MISCOUNTED) == []
    with world.unit() as uow:
        return {key: live for key, live in uow.live_counts.by_host_queue().items() if live}


def test_a_host_queue_counts_its_live_attempts(world: World) -> None:
    """Attempts are counted by account and host until they complete, fail or are cancelled."""
    crawler, orders = world.crawler_with_jobs(4)
    assert counted(world) == {("acc", HOST): 4}

    crawler.sends("job_completed", orders[0], success=True, finalCounts={})
    crawler.fails(orders[1])
    [(cancelled,)] = world.rows(
        "SELECT web_app_job_id FROM job_assignment_mapping WHERE crawler_job_id = :id", id=orders[2]
    )
    world.deliver("jobs.cancel", job_ids=[cancelled])

    assert counted(world) == {("acc", HOST): 1}


def test_attempts_of_a_dead_crawler_are_not_counted(world: World) -> None:
    """The sweep counts the attempts that it closes."""
    crawler, _ = world.crawler_with_jobs(2)
    crawler.silent_for(100)
    world.sweep()
    assert counted(world) == {}


def test_each_backend_has_a_row_of_its_own(world: World) -> None:
    """A transaction does not wait for another one that has changed the same host queue."""
    world.rows(
        "INSERT INTO live_count SELECT 'acc', :host, shard, 1 FROM generate_series(0, 15) shard", host=HOST
    )
    with world.unit() as uow, engine().connect() as peer:
        own = uow._session.scalar(text("SELECT pg_backend_pid() % 16"))
        peer.execute(text("UPDATE live_count SET live = live + 1 WHERE shard <> :own"), {"own": own})
        uow.live_counts.record("acc", HOST, 1)
        uow.commit()
        peer.rollback()
    assert world.rows("SELECT shard FROM live_count WHERE live = 2") == [(own,)]


def test_changes_rolled_back_by_a_savepoint_are_not_counted(world: World) -> None:
    """Neither is an attempt that one unit of work has opened and closed."""
    with world.unit() as uow:
        uow.live_counts.record("acc", HOST, 1)
        with pytest.raises(ZeroDivisionError), uow.savepoint():
            uow.live_counts.record("acc", HOST, 1)
            raise ZeroDivisionError
        uow.live_counts.record("other", "", 1)
        uow.live_counts.record("other", "", -1)
        uow.commit()
    assert world.rows("SELECT account_id, live FROM live_count") == [("acc", 1)]


def test_reconcile_recounts(world: World) -> None:
    """It corrects a count after the web app deleted a job with its attempt, and counts what never was."""
    _, (deleted, _) = world.crawler_with_jobs(2)
    world.rows(
        "DELETE FROM job USING job_assignment_mapping a WHERE job.id = a.web_app_job_id AND crawler_job_id = :id",
        id=deleted,
    )
    world.rows("INSERT INTO live_count VALUES ('gone', '', 3, 2)")

    world.deliver("upkeep.reconcile", more=True)

    assert counted(world) == {("acc", HOST): 1}


def test_the_clean_up_deletes_empty_counts(world: World) -> None:
    """Idle host queues and closed backends leave no rows for good."""
    world.rows("INSERT INTO live_count VALUES ('idle', '', 1, 0), ('acc', '', 1, 1)")
    world.deliver("upkeep.clean_up", more=True)
    assert world.rows("SELECT account_id FROM live_count") == [("acc",)]
