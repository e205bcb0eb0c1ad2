"""Work that waits for the next periodic task is no fault; work that waits too long is."""

from collections.abc import Iterator
from threading import Event, Thread

import pytest
from sqlalchemy import Connection, text

from persistence.audit.audit import GRACE_ROUNDS, Fault, audit
from persistence.db.engine import engine
from persistence.settings import settings
from support.worlds.world import World

OUT_OF_SYNC = "words_of_the_web_app_heard"


@pytest.fixture
def sweeping(world: World) -> World:
    """A world in which sweeps have run for hours."""
    world.rows("UPDATE liveness_state SET last_sweep_at = now(), grace_until = now() - interval '3 hours'")
    return world


def an_hour_passes(world: World) -> None:
    """Make everything written so far an hour old, by an event of that age."""
    world.rows(
        "INSERT INTO dispatch_event (type, created_at) VALUES ('job_created', now() - interval '1 hour')"
    )


def found(*names: str) -> list[Fault]:
    """The faults that these checks find."""
    with engine().connect() as connection:
        return audit(connection, names)


def test_a_recent_write_of_the_web_app_is_not_a_fault(sweeping: World) -> None:
    """Reconcile has not run since, whatever the age of the job, and although the web app sets no time."""
    an_hour_passes(sweeping)
    sweeping.insert_job(created_at="2020-01-01")
    old = sweeping.insert_job(status="paused")
    an_hour_passes(sweeping)
    sweeping.rows("UPDATE job SET status = 'queued' WHERE id = :id", id=old)

    assert [fault.ids for fault in found(OUT_OF_SYNC)] == [
        [sweeping.scalar("SELECT id FROM job WHERE id <> :id", id=old)]
    ]


def test_a_status_left_out_of_sync_for_an_hour_is_a_fault(sweeping: World) -> None:
    """A queued job without an entry for an hour is one that reconcile does not find."""
    job_id = sweeping.insert_job()
    an_hour_passes(sweeping)

    (fault,) = found()

    assert (fault.name, fault.ids) == (OUT_OF_SYNC, [job_id])


def test_work_that_waited_through_an_outage_is_not_a_fault(sweeping: World) -> None:
    """No worker was running: the grace begins at the end of the outage."""
    sweeping.insert_job()
    an_hour_passes(sweeping)
    grace = GRACE_ROUNDS * settings().reconcile_interval

    sweeping.rows("UPDATE liveness_state SET last_sweep_at = now() - interval '1 hour'")
    assert found() == []
    sweeping.rows(
        "UPDATE liveness_state SET last_sweep_at = now(), grace_until = now() - :g + interval '9s'", g=grace
    )
    assert found() == []
    sweeping.rows("UPDATE liveness_state SET grace_until = now() - :g - interval '1s'", g=grace)
    assert [fault.name for fault in found()] == [OUT_OF_SYNC]


AFTER_TOO_OLD = [
    ("status = 'pending', held = true", False),
    ("status = 'failed', settled_at = now(), losses = 5, error = 'it took too long'", False),
    ("status = 'failed', settled_at = now(), losses = 4, error = 'it took too long'", True),
    ("status = 'failed', settled_at = now(), losses = 0, error = 'cancelled'", False),
    ("status = 'failed', settled_at = now(), losses = 0, error = NULL", True),
    ("status = 'completed', settled_at = now()", True),
    ("status = 'processing'", True),
]
"""The entry of a job whose last attempt was too old, and whether that is a fault."""


def test_an_attempt_that_was_too_old_loses_no_job(world: World) -> None:
    """Its job waits again, unless it was lost too often or has been ended since; a later attempt goes on instead."""
    check, waits = "too_old_attempt_queued_again", "status = 'pending', settled_at = NULL, held = false"
    crawler, (fence,) = world.crawler_with_jobs()
    crawler.sends("job_progress", fence, stage="fetching", entityType="issue", processed=1)
    world.rows("UPDATE job_assignment_mapping SET assigned_at = now() - interval '8 days'")
    world.sweep()
    assert world.scalar("SELECT error_type FROM job_error_log") == "TooOld"
    assert found(check) == []

    for entry, is_fault in AFTER_TOO_OLD:
        world.rows(f"UPDATE job_queue SET {waits}; UPDATE job_queue SET {entry}")
        assert [fault.ids for fault in found(check)] == ([[fence]] if is_fault else []), entry

    world.rows(f"UPDATE job_queue SET {waits}")
    world.assign()
    world.rows("UPDATE job_queue SET status = 'completed', settled_at = now()")
    assert found(check) == []


def test_a_working_fleet_has_no_faults_at_any_moment(world: World) -> None:
    """Audits that run beside orders, rounds, frames, sweeps and changes by the web app find no fault."""
    ended, clean = Event(), []
    faults: list[Fault] = []

    def audit_again_and_again() -> None:
        with engine().connect() as connection:
            while not ended.is_set() or len(clean) < 3:
                faults.extend(audit(connection))
                clean.append(not faults)

    auditor = Thread(target=audit_again_and_again)
    auditor.start()
    try:
        for _ in range(6):
            _a_round_of_work(world)
    finally:
        ended.set()
        auditor.join()

    assert [str(fault) for fault in faults] == []
    assert len(clean) >= 3
    assert world.scalar("SELECT count(*) FROM job WHERE status = 'finished'") >= 6


def _a_round_of_work(world: World) -> None:
    crawler, (first, second, third, *_) = world.crawler_with_jobs(6)
    world.sends(*(crawler.frame("job_started", order) for order in crawler.orders()))
    crawler.sends("job_completed", first, success=True, finalCounts={})
    crawler.fails(second)
    world.rows("UPDATE job SET status = 'cancelled' WHERE id = (SELECT web_app_job_id FROM job_assignment_mapping"
               " WHERE crawler_job_id = :fence)", fence=third)  # fmt: skip
    world.insert_job()
    world.deliver("upkeep.reconcile", more=True)
    world.deliver("connections.disconnect", connection_id=crawler.id)
    world.sweep()


def test_the_snapshot_is_consistent_and_read_only(world: World) -> None:
    """An audit begins its own snapshot, and leaves neither a transaction nor a changed setting."""
    world.crawler_with_jobs()
    with engine().connect() as connection:
        assert audit(connection) == []
        assert not connection.in_transaction()
        assert _setting(connection, "enable_nestloop") == "on"


def test_the_callers_transaction_is_unchanged(world: World) -> None:
    """The transaction keeps its settings, and can go on writing."""
    with engine().begin() as connection:
        before = _setting(connection, "statement_timeout")
        assert audit(connection) == []
        assert _setting(connection, "statement_timeout") == before
        assert _setting(connection, "enable_mergejoin") == "on"
        connection.execute(text("INSERT INTO account (id) VALUES ('goes on')"))
    assert world.scalar("SELECT count(*) FROM account WHERE id = 'goes on'") == 1


def _setting(connection: Connection, name: str) -> str:
    return str(connection.scalar(text("SELECT current_setting(:name)"), {"name": name}))


@pytest.fixture
def capped(sweeping: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An account may have one waiting job, and another job was deferred for it an hour ago."""
    monkeypatch.setenv("CRAWLYARD_PENDING_CAP", "1")
    sweeping.reload_settings()
    sweeping.rows("INSERT INTO deferred_job (id, account_id, command, full_path, priority, spawned_from, deferred_at)"
                  " VALUES ('later', 'acc', 'issues', 'later', 1, 'x', now() - interval '1 hour')")  # fmt: skip
    yield sweeping
    monkeypatch.undo()
    sweeping.reload_settings()


def test_a_deferred_job_waits_while_its_account_is_full_or_busy(capped: World) -> None:
    """It is a fault only if its account has room and nothing in its queue has changed."""
    capped.jobs(1)
    an_hour_passes(capped)
    assert found("deferred_jobs_fed") == []

    capped.rows("UPDATE job_queue SET priority = 2, status = 'processing'")
    assert found("deferred_jobs_fed") == []

    an_hour_passes(capped)
    assert [fault.ids for fault in found("deferred_jobs_fed")] == [["acc"]]
