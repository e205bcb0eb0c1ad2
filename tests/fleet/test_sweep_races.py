"""The sweep: what was seen without a lock is looked at again under it, and nobody is waited for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import text

from persistence.attempts.attempts import Assignments
from persistence.db.engine import engine
from persistence.fleet.connections import Connections
from support.meanwhile import held, once
from support.worlds.world import World

STALLED = "UPDATE job_assignment_mapping SET progressed_at = now() - interval '1 hour', status = 'running'"
PROGRESS = {"stage": "fetching", "entityType": "issue", "processed": 1}


def test_an_attempt_whose_crawler_spoke_after_the_look_is_not_stalled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The overdue are read again when their connections are locked."""
    crawler, (order,) = world.working()
    crawler.says("job_progress", order, **PROGRESS)
    world.rows(STALLED)
    once(monkeypatch, Assignments, "overdue", partial(crawler.says, "job_progress", order, **PROGRESS))

    world.sweep()

    assert crawler.orders() == [order]
    assert world.rows("SELECT * FROM job_error_log") == []


def test_an_attempt_that_is_made_before_the_lock_is_had_is_not_missed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a connection holds is read by the statement after the one that locked it."""
    silent, _ = world.working(1)
    world.rows("UPDATE socket_connection SET capacity = 2")
    world.jobs(1)
    silent.silent_for(60)
    once(monkeypatch, Connections, "lock_leaving", world.assign, before=True)

    world.sweep()

    assert world.one("SELECT count(*) FROM job_error_log WHERE error_type = 'ConnectionLost'") == 2
    assert world.rows("SELECT * FROM crawler_order") == []


def test_a_job_that_is_deleted_while_it_is_taken_costs_itself_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its attempt is gone when the sweep comes to lock it; the other is given back."""
    crawler, _ = world.working(2)
    gone, other = (id_ for (id_,) in world.rows("SELECT id FROM job ORDER BY id"))
    crawler.silent_for(60)
    delete = partial(world.rows, "DELETE FROM job WHERE id = :id", id=gone)
    once(monkeypatch, Assignments, "live_of_connections", delete)

    world.sweep()

    assert [(e.job_id, e.error_type) for e in world.rows("SELECT * FROM job_error_log")] == [
        (other, "ConnectionLost")
    ]
    assert world.entry(other).losses == 1
    assert world.rejections() == []


def test_an_entry_that_says_another_thing_than_its_lost_attempt_stays_as_it_is(world: World) -> None:
    """It is reconcile's to mend: a job that has failed is not brought back by the loss of a stray attempt."""
    crawler, _ = world.working()
    world.rows("UPDATE job_queue SET status = 'failed', settled_at = now()")
    crawler.silent_for(60)

    world.sweep()

    assert world.row("SELECT status, losses FROM job_queue") == ("failed", 0)
    assert world.one("SELECT status FROM job_assignment_mapping") == "failed"


def test_an_attempt_that_is_overdue_on_a_dead_connection_is_taken_once(world: World) -> None:
    """As lost with its crawler."""
    crawler, _ = world.working()
    world.rows(STALLED)
    crawler.silent_for(60)

    world.sweep()

    assert world.rows("SELECT error_type FROM job_error_log") == [("ConnectionLost",)]
    assert world.one("SELECT losses FROM job_queue") == 1


def test_the_overdue_are_found_behind_one_who_left_without_jobs(world: World) -> None:
    """They are looked for once nobody is leaving any more, and in the same sweep."""
    crawler, _ = world.working()
    world.rows(STALLED)
    idle = world.crawler()
    world.deliver("connections.disconnect", connection_id=idle.id)

    world.sweep()

    assert not idle.row().is_active
    assert crawler.orders() == []
    assert world.rows("SELECT error_type FROM job_error_log") == [("Stalled",)]


def test_one_list_without_a_job_does_not_disown_it_however_old_it_is(world: World) -> None:
    """The crawler must leave it out again when the grace is over."""
    crawler, (order,) = world.working()
    crawler.says("heartbeat", activeJobs=[])
    world.sweep()
    world.rows(
        "UPDATE job_assignment_mapping SET absent_since = absent_since - interval '7 seconds',"
        " assigned_at = assigned_at - interval '8 seconds'"
    )
    world.rows("UPDATE socket_connection SET reported_at = reported_at - interval '7 seconds'")

    world.sweep()
    assert crawler.orders() == [order]

    crawler.says("heartbeat", activeJobs=[])
    world.sweep()
    assert crawler.orders() == []


def test_a_job_that_is_listed_is_not_disowned_though_its_absence_is_still_noted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep notes so many at a time, and passes over who is locked."""
    crawler, (order,) = world.working()
    world.rows("UPDATE job_assignment_mapping SET absent_since = now() - interval '1 minute'")
    crawler.says("heartbeat", activeJobs=[order])
    monkeypatch.setattr(Assignments, "mark_absent", lambda *_: None)

    world.sweep()

    assert crawler.orders() == [order]


def test_a_list_of_before_a_job_was_given_says_nothing_of_it(world: World) -> None:
    """The crawler could not know it."""
    crawler = world.crawler()
    crawler.says("heartbeat", activeJobs=[])
    world.jobs(1)
    world.assign()

    world.sweep()

    assert world.one("SELECT absent_since FROM job_assignment_mapping") is None


def test_a_fleet_is_counted_as_of_the_ring(world: World) -> None:
    """However late the sweep is: who had spoken by then was not silent, and no half of the fleet is missing."""
    rung_at = world.now() - timedelta(minutes=10)
    for _ in range(12):
        world.crawler()
    world.rows(
        "UPDATE socket_connection SET last_heartbeat = CAST(:at AS timestamptz) - interval '1 second'",
        at=rung_at,
    )

    world.sweep(as_of=rung_at)

    assert world.row("SELECT mass_waited_at, grace_until FROM liveness_state") == (None, None)
    assert world.one("SELECT count(*) FROM socket_connection WHERE is_active") == 12


def test_a_sweep_that_comes_late_is_not_taken_for_the_last(world: World) -> None:
    """Else the time since its ring would look like an outage."""
    now = world.now()
    world.rows("UPDATE liveness_state SET last_sweep_at = :now", now=now)

    world.deliver("connections.expire_dead", as_of=(now - timedelta(seconds=2)).isoformat())

    assert world.row("SELECT last_sweep_at, grace_until FROM liveness_state") == (now, None)


def test_a_sweep_judges_by_what_the_one_before_has_found(world: World) -> None:
    """It waits for it before it looks: here it has found that we were gone, and nothing is to be taken."""
    crawler, orders = world.working()
    crawler.silent_for(60)
    as_of = world.now()
    world.rows("UPDATE liveness_state SET last_sweep_at = :at", at=as_of)
    with engine().connect() as peer:
        peer.execute(text("UPDATE liveness_state SET grace_until = clock_timestamp() + interval '1 minute'"))
        thread = world.in_thread(partial(world.deliver, "connections.expire_dead", as_of=as_of.isoformat()))
        world.until_somebody_waits_for_a_lock()
        peer.commit()
        thread.join()

    assert crawler.orders() == orders


def test_a_goodbye_of_after_the_ring_is_the_next_sweeps(world: World) -> None:
    """Its last words are behind this sweep still."""
    crawler, orders = world.working()
    rung_at = world.now()
    world.deliver("connections.disconnect", connection_id=crawler.id)

    world.sweep(as_of=rung_at)
    assert crawler.orders() == orders

    world.sweep()
    assert crawler.orders() == []


def test_a_heartbeat_that_commits_while_the_sweep_is_looking_wins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the one statement that looks and locks: the row is tested again under its lock."""
    monkeypatch.setenv("CRAWLYARD_LOCK_TIMEOUT", "30")
    world.use_settings()
    beating, silent = world.crawler(), world.crawler()
    for crawler in (beating, silent):
        crawler.silent_for(60)
    found: list[str] = []

    def sweep() -> None:
        with world.unit() as uow:
            uow.connections._session.execute(text("SET LOCAL search_path = slowly, pg_catalog, public"))
            found.extend(uow.connections.lock_leaving(uow.now(), timedelta(seconds=9), 1000))

    with slowly_counted(world) as looked:
        thread = world.in_thread(sweep)
        world.until_somebody_waits_for_a_lock()
        beating.says("heartbeat")
        looked()
        thread.join()

    assert found == [silent.id]


@contextmanager
def slowly_counted(world: World) -> Iterator[Callable[[], None]]:
    """Whoever has `slowly` on its path waits, when it counts a connection's jobs, until it is told to go on."""
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


def test_the_sweep_waits_for_no_word_of_a_crawler(world: World) -> None:
    """Who is being heard is left for the next one; of the others the overdue are taken."""
    (speaking, (said,)), (quiet, _) = world.working(), world.working()
    world.rows(STALLED)

    with held("SELECT FROM socket_connection WHERE id = :id", id=speaking.id):
        world.sweep()
        assert (speaking.orders(), quiet.orders()) == ([said], [])

    world.sweep()
    assert speaking.orders() == []
