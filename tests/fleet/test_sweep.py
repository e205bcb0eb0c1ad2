"""The sweep requeues the jobs of dead crawlers, and closes no live connection."""

from datetime import timedelta
from time import monotonic

import pytest
from sqlalchemy import text

from persistence.db.engine import engine
from persistence.settings import settings
from support.worlds.world import World

PROGRESS = {"stage": "fetching", "entityType": "issue", "processed": 1}


def test_jobs_of_a_silent_crawler_are_requeued_and_assigned_elsewhere(world: World) -> None:
    """It counts one loss, logs an error and keeps resume_state; the next attempt has a new fence."""
    crawler, (order,) = world.crawler_with_jobs()
    (job_id,) = (row.id for row in world.rows("SELECT id FROM job"))
    crawler.sends("job_progress", order, **PROGRESS, resumeState={"currentPage": 4})
    crawler.silent_for(60)

    world.sweep()

    assert (world.job(job_id).status, world.job(job_id).resume_state) == ("queued", {"currentPage": 4})
    assert world.job(job_id).started_at is not None
    assert (world.entry(job_id).status, world.entry(job_id).losses, world.entry(job_id).attempts) == (
        "pending",
        1,
        0,
    )
    assert [a.status for a in world.attempts(job_id)] == ["failed"]
    assert [(e.error_type, e.retry_count) for e in world.errors(job_id)] == [("ConnectionLost", 0)]
    assert (crawler.row().is_active, crawler.row().active_jobs) == (False, [])
    assert [e.payload["reason"] for e in world.events("job_revoked")] == ["ConnectionLost"]
    assert [e.connection_id for e in world.events("connection_lost")] == [crawler.id]

    other = world.crawler()
    world.assign()
    (next_order,) = other.orders()
    assert next_order != order
    assert world.scalar("SELECT resume_state FROM crawler_order") == {"currentPage": 4}


def test_a_crawler_that_sent_a_frame_in_time_keeps_its_jobs(world: World) -> None:
    """Only a connection that is silent for the whole timeout loses its jobs."""
    silent, _ = world.crawler_with_jobs(2)
    live, orders = world.crawler_with_jobs(2)
    silent.silent_for(9.5)
    live.silent_for(8)

    world.sweep()

    assert silent.orders() == []
    assert live.orders() == orders
    assert live.row().is_active


def test_silence_is_judged_as_of_the_publish_time(world: World) -> None:
    """It does not matter how long the sweep waits in its queue."""
    crawler, orders = world.crawler_with_jobs()
    published_at = world.now()
    crawler.silent_for(8)
    world.rows("UPDATE socket_connection SET last_heartbeat = last_heartbeat - interval '10 minutes'")

    world.sweep(as_of=published_at - timedelta(minutes=10))

    assert crawler.orders() == orders


def test_the_sweep_is_published_after_the_frames_with_the_database_time(world: World) -> None:
    """Without as_of nothing is judged; several messages within the interval publish one sweep."""
    crawler, orders = world.crawler_with_jobs()
    crawler.silent_for(60)
    before = world.now()
    world.deliver("connections.expire_dead")
    world.deliver("connections.expire_dead")

    ((message),) = world.published.of("connections.expire_dead")
    assert before < message["as_of"] < world.now()
    assert crawler.orders() == orders

    world.rows("UPDATE periodic_ring SET rung_at = rung_at - interval '1 second'")
    world.deliver("connections.expire_dead")
    assert len(world.published.of("connections.expire_dead")) == 2


def test_an_as_of_in_the_future_is_rejected(world: World) -> None:
    """Only the database's clock counts."""
    crawler, orders = world.crawler_with_jobs()

    world.deliver("connections.expire_dead", as_of=(world.now() + timedelta(hours=1)).isoformat())

    assert world.rejections() == [("connections.expire_dead", "as_of_in_the_future")]
    assert crawler.orders() == orders


def test_a_redelivered_as_of_in_the_future_is_rejected_once(world: World) -> None:
    """Its worker may have died right after the COMMIT."""
    as_of = (world.now() + timedelta(hours=1)).isoformat()

    for message in ("a message", "a message", "another"):
        world.deliver("connections.expire_dead", message, as_of=as_of)

    assert world.rejections() == [("connections.expire_dead", "as_of_in_the_future")] * 2


def test_a_disconnect_counts_no_loss(world: World) -> None:
    """The job can be assigned at once, with neither an attempt nor a loss counted."""
    crawler, (order,) = world.crawler_with_jobs()
    job_id = world.scalar("SELECT id FROM job")
    world.deliver("connections.disconnect", connection_id=crawler.id, reason="update")
    assert crawler.orders() == [order]

    world.sweep()

    entry = world.entry(job_id)
    assert (entry.status, entry.ready, entry.attempts, entry.losses, entry.goodbyes) == (
        "pending",
        True,
        0,
        0,
        1,
    )
    assert [e.error_type for e in world.errors(job_id)] == ["Goodbye"]
    assert crawler.row().is_active is False


def test_a_completion_sent_before_the_sweep_of_a_disconnect_counts(world: World) -> None:
    """A disconnect only marks the connection: frames sent before the sweep was published are applied before it."""
    crawler, (order,) = world.crawler_with_jobs()
    world.deliver("connections.disconnect", connection_id=crawler.id)
    crawler.sends("job_completed", order)

    world.sweep()

    assert world.scalar("SELECT status FROM job") == "finished"
    assert world.rows("SELECT * FROM job_error_log") == []


def test_disconnects_are_backed_off_and_bounded(world: World) -> None:
    """The second one waits a little; the twenty-first fails the job."""
    crawler, _ = world.crawler_with_jobs()
    world.rows("UPDATE job_queue SET goodbyes = 1")
    world.deliver("connections.disconnect", connection_id=crawler.id)
    world.sweep()
    assert world.row("SELECT ready, goodbyes FROM job_queue") == (False, 2)

    world.rows("UPDATE job_queue SET goodbyes = 20, ready = true")
    again = world.crawler()
    world.assign()
    world.deliver("connections.disconnect", connection_id=again.id)
    world.sweep()
    assert world.scalar("SELECT status FROM job") == "failed"


def test_the_fifth_loss_in_a_row_fails_the_job(world: World) -> None:
    """The job itself probably kills its crawlers."""
    crawler, _ = world.crawler_with_jobs()
    world.rows("UPDATE job_queue SET losses = 4")
    crawler.silent_for(60)

    world.sweep()

    assert world.row("SELECT status, losses FROM job_queue") == ("failed", 5)
    assert world.scalar("SELECT status FROM job") == "failed"


def test_a_job_missing_from_its_crawlers_list_is_requeued_after_the_grace(world: World) -> None:
    """The absence is recorded first, cleared if the job is back in the list, and ends the attempt if it lasts."""
    crawler, (one, two) = world.crawler_with_jobs(2)
    crawler.sends("heartbeat", activeJobs=[one])
    world.sweep()
    assert len(crawler.orders()) == 2
    assert world.scalar(
        "SELECT absent_since IS NOT NULL FROM job_assignment_mapping WHERE crawler_job_id = :o", o=two
    )

    crawler.sends("heartbeat", activeJobs=[one, two])
    world.sweep()
    assert world.scalar("SELECT count(*) FROM job_assignment_mapping WHERE absent_since IS NOT NULL") == 0

    crawler.sends("heartbeat", activeJobs=[one])
    world.sweep()
    world.rows("UPDATE job_assignment_mapping SET absent_since = absent_since - interval '7 seconds'")
    crawler.sends("heartbeat", activeJobs=[one])
    world.sweep()
    assert crawler.orders() == [one]
    assert [e.error_type for e in world.rows("SELECT error_type FROM job_error_log")] == ["Disowned"]
    assert crawler.row().is_active


def test_a_crawler_that_reports_only_a_count_disowns_nothing(world: World) -> None:
    """A count does not show which jobs the crawler has."""
    crawler, orders = world.crawler_with_jobs(2)
    crawler.sends("heartbeat", activeJobs=0)

    world.sweep()

    assert crawler.orders() == orders
    assert world.scalar("SELECT count(*) FROM job_assignment_mapping WHERE absent_since IS NOT NULL") == 0


def test_stalled_and_never_started_jobs_are_requeued(world: World) -> None:
    """An hour without progress, or five minutes without a start, ends an attempt but not its connection."""
    crawler, (stalled, idle, fresh) = world.crawler_with_jobs(3)
    crawler.sends("job_started", stalled)
    aged = (
        "UPDATE job_assignment_mapping SET {0} = {0} - interval '{1} seconds' WHERE crawler_job_id = :order"
    )
    world.rows(aged.format("progressed_at", 361), order=stalled)
    world.rows(aged.format("assigned_at", 31), order=idle)

    world.sweep()

    assert crawler.orders() == [fresh]
    assert [t for (t,) in world.rows("SELECT error_type FROM job_error_log ORDER BY 1")] == [
        "NeverStarted",
        "Stalled",
    ]
    assert world.scalar("SELECT sum(losses) FROM job_queue") == 2
    assert crawler.row().is_active


def test_a_listed_job_is_not_requeued_as_never_started(world: World) -> None:
    """The crawler has the job, and will start it."""
    crawler, (order,) = world.crawler_with_jobs()
    crawler.sends("heartbeat", activeJobs=[order])
    world.rows("UPDATE job_assignment_mapping SET assigned_at = assigned_at - interval '31 seconds'")

    world.sweep()

    assert crawler.orders() == [order]


def test_a_heartbeat_that_commits_first_wins(world: World) -> None:
    """The sweep skips a row that a heartbeat has locked, without waiting for it."""
    crawler, orders = world.crawler_with_jobs()
    crawler.silent_for(60)
    with engine().connect() as beat:
        beat.execute(text("UPDATE socket_connection SET last_heartbeat = clock_timestamp()"))
        started = monotonic()
        world.sweep()
        waited = monotonic() - started
        beat.commit()

    assert crawler.orders() == orders
    assert waited < settings().lock_timeout.total_seconds()
    world.sweep()
    assert crawler.orders() == orders


def test_an_attempt_committed_while_the_sweep_locks_is_not_missed(world: World) -> None:
    """The attempts of a connection are read after it is locked."""
    crawler = world.crawler(capacity=2)
    (job_id,) = world.jobs(1)
    with engine().connect() as assigning:
        assigning.execute(text("SELECT FROM socket_connection FOR NO KEY UPDATE"))
        world.deliver("jobs.assign")  # skips the locked connection
        assert crawler.orders() == []
        assigning.rollback()
    world.assign()
    crawler.silent_for(60)

    world.sweep()

    assert world.scalar("SELECT count(*) FROM crawler_order") == 0
    assert world.entry(job_id).status == "pending"


def test_a_large_sweep_runs_in_chunks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each unit requeues a bounded number of jobs, and publishes the next one with the same as_of."""
    monkeypatch.setattr("tasks.fleet.sweep.CHUNK_JOBS", 4)
    for _ in range(5):
        crawler, _ = world.crawler_with_jobs(2)
        crawler.silent_for(60)
    world.rows("UPDATE liveness_state SET last_sweep_at = clock_timestamp(), grace_until = NULL")
    world.published.messages.clear()
    as_of = world.now()

    world.deliver("connections.expire_dead", as_of=as_of.isoformat())

    assert world.scalar("SELECT count(*) FROM crawler_order") == 6
    assert world.published.of("connections.expire_dead") == [{"as_of": as_of}]
    world.sweep(as_of)
    assert world.scalar("SELECT count(*) FROM crawler_order") == 0
    assert world.scalar("SELECT sum(losses) FROM job_queue") == 10


def test_a_sweep_publishes_a_round_for_due_jobs(world: World) -> None:
    """Without beat, this is how backed-off jobs are found."""
    world.sweep()
    assert world.published.of("jobs.assign") == []
    world.jobs(1)
    world.published.messages.clear()
    world.deliver("connections.expire_dead", as_of=world.now().isoformat())
    assert world.published.of("jobs.assign") == [{}]


def test_updates_of_a_live_connection_stay_hot(world: World) -> None:
    """A heartbeat changes no indexed column, and its page has room for the new version."""
    crawlers = [world.crawler() for _ in range(50)]
    beats = [{"connection_id": c.id, "active_jobs": 1, "system_status": "idle"} for c in crawlers]
    world.rows("SELECT pg_stat_reset_single_table_counters('socket_connection'::regclass)")
    for _ in range(20):
        world.deliver("connections.heartbeat", beats=beats)
    world.rows("SELECT pg_stat_force_next_flush()")

    row = world.row(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'socket_connection'"
    )
    assert row.n_tup_upd >= 1000
    assert row.n_tup_hot_upd / row.n_tup_upd > 0.95


def test_a_disconnect_a_sweep_and_a_reconcile_delivered_twice_have_the_effect_of_one(world: World) -> None:
    """The same message, or the same as_of, changes nothing the second time."""
    leaving, _ = world.crawler_with_jobs(2)
    silent, _ = world.crawler_with_jobs(2)
    world.insert_job()
    silent.silent_for(60)
    world.deliver("connections.disconnect", "goodbye", connection_id=leaving.id)
    as_of = world.now()
    world.sweep(as_of)
    world.deliver("upkeep.reconcile", "round")
    once = world.snapshot()

    world.deliver("connections.disconnect", "goodbye", connection_id=leaving.id)
    world.sweep(as_of)
    world.deliver("upkeep.reconcile", "round")
    world.deliver("upkeep.clean_up", "round")

    assert world.snapshot() == once
