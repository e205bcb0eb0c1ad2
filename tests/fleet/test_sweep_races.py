"""The sweep checks under lock what it read without one, and waits for no other transaction."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import text

from persistence.attempts.attempts import Attempts
from persistence.attempts.overdue import OverdueAttempts
from persistence.db.engine import engine
from persistence.fleet.connections import Connections
from support.meanwhile import held, once
from support.worlds.world import World

STALLED = "UPDATE job_assignment_mapping SET progressed_at = now() - interval '1 hour', status = 'running'"
PROGRESS = {"stage": "fetching", "entityType": "issue", "processed": 1}


def test_an_attempt_that_progressed_after_the_read_is_not_stalled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overdue attempts are read again after their connections are locked."""
    crawler, (order,) = world.crawler_with_jobs()
    crawler.sends("job_progress", order, **PROGRESS)
    world.rows(STALLED)
    more = PROGRESS | {"processed": 2}
    once(monkeypatch, OverdueAttempts, "find", partial(crawler.sends, "job_progress", order, **more))

    world.sweep()

    assert crawler.orders() == [order]
    assert world.rows("SELECT * FROM job_error_log") == []


def test_an_attempt_created_before_the_lock_is_not_missed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempts of a connection are read by the statement after the one that locks it."""
    silent, _ = world.crawler_with_jobs(1)
    world.rows("UPDATE socket_connection SET capacity = 2")
    world.jobs(1)
    silent.silent_for(60)
    once(monkeypatch, Connections, "lock_closable", world.assign, before=True)

    world.sweep()

    assert world.scalar("SELECT count(*) FROM job_error_log WHERE error_type = 'ConnectionLost'") == 2
    assert world.rows("SELECT * FROM crawler_order") == []


def test_a_job_deleted_during_the_sweep_affects_no_other_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its attempt is gone when the sweep locks it; the other job is requeued."""
    crawler, _ = world.crawler_with_jobs(2)
    gone, other = (id_ for (id_,) in world.rows("SELECT id FROM job ORDER BY id"))
    crawler.silent_for(60)
    delete = partial(world.rows, "DELETE FROM job WHERE id = :id", id=gone)
    once(monkeypatch, Attempts, "live_of_connections", delete)

    world.sweep()

    assert [(e.job_id, e.error_type) for e in world.rows("SELECT * FROM job_error_log")] == [
        (other, "ConnectionLost")
    ]
    assert world.entry(other).losses == 1
    assert world.rejections() == []


def test_an_entry_that_is_not_processing_is_unchanged_by_a_lost_attempt(world: World) -> None:
    """Reconcile repairs such an entry: a failed job does not return because a stray attempt is lost."""
    crawler, (order,) = world.crawler_with_jobs()
    crawler.sends("job_started", order)
    world.rows("UPDATE job_queue SET status = 'failed', settled_at = now()")
    crawler.silent_for(60)

    world.sweep()

    assert world.row("SELECT status, losses FROM job_queue") == ("failed", 0)
    assert world.scalar("SELECT status FROM job_assignment_mapping") == "failed"
    assert world.scalar("SELECT status FROM job") == "running"


def test_an_overdue_attempt_on_a_dead_connection_is_closed_once(world: World) -> None:
    """It ends as lost with its crawler."""
    crawler, _ = world.crawler_with_jobs()
    world.rows(STALLED)
    crawler.silent_for(60)

    world.sweep()

    assert world.rows("SELECT error_type FROM job_error_log") == [("ConnectionLost",)]
    assert world.scalar("SELECT losses FROM job_queue") == 1


def test_overdue_attempts_are_found_after_a_disconnect_without_jobs(world: World) -> None:
    """They are looked for in the same sweep, after all closable connections are closed."""
    crawler, _ = world.crawler_with_jobs()
    world.rows(STALLED)
    idle = world.crawler()
    world.deliver("connections.disconnect", connection_id=idle.id)

    world.sweep()

    assert not idle.row().is_active
    assert crawler.orders() == []
    assert world.rows("SELECT error_type FROM job_error_log") == [("Stalled",)]


def test_one_list_without_a_job_never_disowns_it(world: World) -> None:
    """The crawler must leave it out again after the grace."""
    crawler, (order,) = world.crawler_with_jobs()
    crawler.sends("heartbeat", activeJobs=[])
    world.sweep()
    world.rows(
        "UPDATE job_assignment_mapping SET absent_since = absent_since - interval '7 seconds',"
        " assigned_at = assigned_at - interval '8 seconds'"
    )
    world.rows("UPDATE socket_connection SET reported_at = reported_at - interval '7 seconds'")

    world.sweep()
    assert crawler.orders() == [order]

    crawler.sends("heartbeat", activeJobs=[])
    world.sweep()
    assert crawler.orders() == []


def test_a_listed_job_is_not_disowned_although_its_absence_is_still_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep records a bounded number of changes, and skips locked attempts, so an absence may be out of date."""
    crawler, (order,) = world.crawler_with_jobs()
    world.rows("UPDATE job_assignment_mapping SET absent_since = now() - interval '1 minute'")
    crawler.sends("heartbeat", activeJobs=[order])
    monkeypatch.setattr(OverdueAttempts, "mark_absent", lambda *_: None)

    world.sweep()

    assert crawler.orders() == [order]


def test_a_list_older_than_the_assignment_does_not_disown_the_job(world: World) -> None:
    """The crawler could not know the job yet."""
    crawler = world.crawler()
    crawler.sends("heartbeat", activeJobs=[])
    world.jobs(1)
    world.assign()

    world.sweep()

    assert world.scalar("SELECT absent_since FROM job_assignment_mapping") is None


def test_a_fleet_is_counted_as_of_the_publish_time(world: World) -> None:
    """In a late sweep, crawlers that had sent a frame by then are not silent, so there is no mass silence."""
    published_at = world.now() - timedelta(minutes=10)
    for _ in range(12):
        world.crawler()
    world.rows(
        "UPDATE socket_connection SET last_heartbeat = CAST(:at AS timestamptz) - interval '1 second'",
        at=published_at,
    )

    world.sweep(as_of=published_at)

    assert world.row("SELECT mass_waited_at, grace_until FROM liveness_state") == (None, None)
    assert world.scalar("SELECT count(*) FROM socket_connection WHERE is_active") == 12


def test_a_late_sweep_is_not_recorded_as_the_last(world: World) -> None:
    """Otherwise the time since its as_of would look like an outage."""
    now = world.now()
    world.rows("UPDATE liveness_state SET last_sweep_at = :now", now=now)

    world.deliver("connections.expire_dead", as_of=(now - timedelta(seconds=2)).isoformat())

    assert world.row("SELECT last_sweep_at, grace_until FROM liveness_state") == (now, None)


def test_a_sweep_uses_the_state_saved_by_the_previous_sweep(world: World) -> None:
    """It waits for the state: here the other sweep has found an outage, so nothing is closed."""
    crawler, orders = world.crawler_with_jobs()
    crawler.silent_for(60)
    as_of = world.now()
    world.rows("UPDATE liveness_state SET last_sweep_at = :at", at=as_of)
    with engine().connect() as peer:
        peer.execute(text("UPDATE liveness_state SET grace_until = clock_timestamp() + interval '1 minute'"))
        thread = world.in_thread(partial(world.deliver, "connections.expire_dead", as_of=as_of.isoformat()))
        world.wait_for_lock_waiter()
        peer.commit()
        thread.join()

    assert crawler.orders() == orders


def test_a_disconnect_after_the_publish_time_is_left_to_the_next_sweep(world: World) -> None:
    """Its last frames may come after this sweep."""
    crawler, orders = world.crawler_with_jobs()
    published_at = world.now()
    world.deliver("connections.disconnect", connection_id=crawler.id)

    world.sweep(as_of=published_at)
    assert crawler.orders() == orders

    world.sweep()
    assert crawler.orders() == []


def test_an_end_that_a_goodbye_overtook_is_applied(world: World) -> None:
    """With two children consuming, a goodbye behind a large message overtakes it, and a sweep may follow at once."""
    crawler, (order,) = world.crawler_with_jobs()
    world.deliver("connections.disconnect", connection_id=crawler.id)

    world.sweep(as_of=world.now())
    crawler.sends("job_completed", order)

    assert [status for (status,) in world.rows("SELECT status FROM job")] == ["finished"]
    assert world.scalar("SELECT stale_words FROM job_assignment_mapping") == 0
    world.sweep()
    assert not crawler.row().is_active


def test_a_heartbeat_that_commits_during_the_sweep_wins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement that locks the connections checks each row again under its lock."""
    monkeypatch.setenv("CRAWLYARD_LOCK_TIMEOUT", "30")
    world.reload_settings()
    beating, silent = world.crawler(), world.crawler()
    for crawler in (beating, silent):
        crawler.silent_for(60)
    found: list[str] = []

    def sweep() -> None:
        with world.unit() as uow:
            uow.connections._session.execute(text("SET LOCAL search_path = slowly, pg_catalog, public"))
            found.extend(uow.connections.lock_closable(uow.now(), 1000))

    with slowly_counted(world) as looked:
        thread = world.in_thread(sweep)
        world.wait_for_lock_waiter()
        beating.sends("heartbeat")
        looked()
        thread.join()

    assert found == [silent.id]


@contextmanager
def slowly_counted(world: World) -> Iterator[Callable[[], None]]:
    """With `slowly` on its search path, a session that counts the jobs of a connection waits to be released."""
    world.rows("CREATE SCHEMA slowly")
    world.rows("""
        CREATE FUNCTION slowly.jsonb_array_length(jobs jsonb) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_advisory_xact_lock_shared(42);
            RETURN pg_catalog.jsonb_array_length(jobs);
        END $$
    """)
    try:
        with engine().connect() as peer:
            peer.execute(text("SELECT pg_advisory_xact_lock(42)"))
            yield peer.rollback
    finally:
        world.rows("DROP SCHEMA slowly CASCADE")


def test_the_sweep_waits_for_no_frame(world: World) -> None:
    """Overdue attempts of a locked connection are left to the next sweep; the others are closed."""
    (busy, (order,)), (quiet, _) = world.crawler_with_jobs(), world.crawler_with_jobs()
    world.rows(STALLED)

    with held("SELECT FROM socket_connection WHERE id = :id", id=busy.id):
        world.sweep()
        assert (busy.orders(), quiet.orders()) == ([order], [])

    world.sweep()
    assert busy.orders() == []
