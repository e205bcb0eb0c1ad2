"""The sweep: dead crawlers' jobs go back, and nobody who lives is taken for dead."""

from datetime import timedelta
from time import monotonic

import pytest
from sqlalchemy import text

from persistence.db.engine import engine
from persistence.settings import settings
from support.worlds.world import World

PROGRESS = {"stage": "fetching", "entityType": "issue", "processed": 1}


def test_a_silent_crawler_loses_its_jobs_and_they_go_on_elsewhere(world: World) -> None:
    """One loss, an error row, resume_state kept, and a fresh fence for the next attempt."""
    crawler, (order,) = world.working()
    (job_id,) = (row.id for row in world.rows("SELECT id FROM job"))
    crawler.says("job_progress", order, **PROGRESS, resumeState={"currentPage": 4})
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
    assert world.one("SELECT resume_state FROM crawler_order") == {"currentPage": 4}


def test_a_crawler_that_spoke_in_time_keeps_its_jobs(world: World) -> None:
    """Only connections silent for the whole timeout lose what they hold."""
    silent, _ = world.working(2)
    live, orders = world.working(2)
    silent.silent_for(9.5)
    live.silent_for(8)

    world.sweep()

    assert silent.orders() == []
    assert live.orders() == orders
    assert live.row().is_active


def test_silence_is_judged_as_of_the_ring(world: World) -> None:
    """However long the sweep waits in its queue, and whatever was not heard meanwhile."""
    crawler, orders = world.working()
    rung_at = world.now()
    crawler.silent_for(8)
    world.rows("UPDATE socket_connection SET last_heartbeat = last_heartbeat - interval '10 minutes'")

    world.sweep(as_of=rung_at - timedelta(minutes=10))

    assert crawler.orders() == orders


def test_a_ring_is_sent_behind_the_words_with_the_time_of_the_database(world: World) -> None:
    """Without as_of nothing is judged; rings in between are as one."""
    crawler, orders = world.working()
    crawler.silent_for(60)
    before = world.now()
    world.deliver("connections.expire_dead")
    world.deliver("connections.expire_dead")

    ((bell),) = world.rung.of("connections.expire_dead")
    assert before < bell["as_of"] < world.now()
    assert crawler.orders() == orders

    world.rows("UPDATE periodic_ring SET rung_at = rung_at - interval '1 second'")
    world.deliver("connections.expire_dead")
    assert len(world.rung.of("connections.expire_dead")) == 2


def test_an_as_of_in_the_future_is_rejected(world: World) -> None:
    """Nobody's clock but the database's is believed."""
    crawler, orders = world.working()

    world.deliver("connections.expire_dead", as_of=(world.now() + timedelta(hours=1)).isoformat())

    assert world.rejections() == [("connections.expire_dead", "as_of_in_the_future")]
    assert crawler.orders() == orders


def test_an_as_of_in_the_future_that_is_delivered_again_is_rejected_once(world: World) -> None:
    """Its COMMIT may have been the last thing that its worker did."""
    as_of = (world.now() + timedelta(hours=1)).isoformat()

    for message in ("a message", "a message", "another"):
        world.deliver("connections.expire_dead", message, as_of=as_of)

    assert world.rejections() == [("connections.expire_dead", "as_of_in_the_future")] * 2


def test_a_goodbye_burns_nothing(world: World) -> None:
    """The job goes on at once elsewhere; neither an attempt nor a loss is counted."""
    crawler, (order,) = world.working()
    job_id = world.one("SELECT id FROM job")
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


def test_a_completion_behind_a_goodbye_is_not_overtaken(world: World) -> None:
    """Words mark, only the sweep judges: what was said before the sweep was rung is heard before it."""
    crawler, (order,) = world.working()
    world.deliver("connections.disconnect", connection_id=crawler.id)
    crawler.says("job_completed", order)

    world.sweep()

    assert world.one("SELECT status FROM job") == "finished"
    assert world.rows("SELECT * FROM job_error_log") == []


def test_goodbyes_are_backed_off_and_bounded(world: World) -> None:
    """The second waits a little, the twenty-first fails the job."""
    crawler, _ = world.working()
    world.rows("UPDATE job_queue SET goodbyes = 1")
    world.deliver("connections.disconnect", connection_id=crawler.id)
    world.sweep()
    assert world.row("SELECT ready, goodbyes FROM job_queue") == (False, 2)

    world.rows("UPDATE job_queue SET goodbyes = 20, ready = true")
    again = world.crawler()
    world.assign()
    world.deliver("connections.disconnect", connection_id=again.id)
    world.sweep()
    assert world.one("SELECT status FROM job") == "failed"


def test_the_fifth_loss_in_a_row_fails_the_job(world: World) -> None:
    """A job that kills its crawlers is found."""
    crawler, _ = world.working()
    world.rows("UPDATE job_queue SET losses = 4")
    crawler.silent_for(60)

    world.sweep()

    assert world.row("SELECT status, losses FROM job_queue") == ("failed", 5)
    assert world.one("SELECT status FROM job") == "failed"


def test_a_job_missing_from_its_crawlers_list_is_taken_after_a_grace(world: World) -> None:
    """Noted first, forgiven when it is back in the list, taken when it stays away."""
    crawler, (one, two) = world.working(2)
    crawler.says("heartbeat", activeJobs=[one])
    world.sweep()
    assert len(crawler.orders()) == 2
    assert world.one(
        "SELECT absent_since IS NOT NULL FROM job_assignment_mapping WHERE crawler_job_id = :o", o=two
    )

    crawler.says("heartbeat", activeJobs=[one, two])
    world.sweep()
    assert world.one("SELECT count(*) FROM job_assignment_mapping WHERE absent_since IS NOT NULL") == 0

    crawler.says("heartbeat", activeJobs=[one])
    world.sweep()
    world.rows("UPDATE job_assignment_mapping SET absent_since = absent_since - interval '7 seconds'")
    crawler.says("heartbeat", activeJobs=[one])
    world.sweep()
    assert crawler.orders() == [one]
    assert [e.error_type for e in world.rows("SELECT error_type FROM job_error_log")] == ["Disowned"]
    assert crawler.row().is_active


def test_a_crawler_that_gives_only_a_count_disowns_nothing(world: World) -> None:
    """A count says how many, not which."""
    crawler, orders = world.working(2)
    crawler.says("heartbeat", activeJobs=0)

    world.sweep()

    assert crawler.orders() == orders
    assert world.one("SELECT count(*) FROM job_assignment_mapping WHERE absent_since IS NOT NULL") == 0


def test_a_stalled_job_and_one_never_begun_are_taken(world: World) -> None:
    """An hour without progress, five minutes without a start; the connection lives on."""
    crawler, (stalled, idle, fresh) = world.working(3)
    crawler.says("job_started", stalled)
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
    assert world.one("SELECT sum(losses) FROM job_queue") == 2
    assert crawler.row().is_active


def test_a_job_that_its_crawler_lists_is_not_taken_for_never_begun(world: World) -> None:
    """It has it, and will come to it."""
    crawler, (order,) = world.working()
    crawler.says("heartbeat", activeJobs=[order])
    world.rows("UPDATE job_assignment_mapping SET assigned_at = assigned_at - interval '31 seconds'")

    world.sweep()

    assert crawler.orders() == [order]


def test_a_heartbeat_that_commits_first_wins(world: World) -> None:
    """The sweep skips a row that is being beaten, and looks again under its own lock."""
    crawler, orders = world.working()
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


def test_an_assignment_that_a_pass_commits_while_the_sweep_locks_is_not_missed(world: World) -> None:
    """Lock, then look: the dependants are read by the statement after the lock."""
    crawler = world.crawler(capacity=2)
    (job_id,) = world.jobs(1)
    with engine().connect() as seating:
        seating.execute(text("SELECT FROM socket_connection FOR NO KEY UPDATE"))
        world.deliver("jobs.assign")  # finds the connection locked, and passes it over
        assert crawler.orders() == []
        seating.rollback()
    world.assign()
    crawler.silent_for(60)

    world.sweep()

    assert world.one("SELECT count(*) FROM crawler_order") == 0
    assert world.entry(job_id).status == "pending"


def test_a_large_sweep_goes_in_units(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a bounded number of jobs, and rings the next with the same as_of."""
    monkeypatch.setattr("tasks.fleet.sweep.UNIT_JOBS", 4)
    for _ in range(5):
        crawler, _ = world.working(2)
        crawler.silent_for(60)
    world.rows("UPDATE liveness_state SET last_sweep_at = clock_timestamp(), grace_until = NULL")
    world.rung.bells.clear()
    as_of = world.now()

    world.deliver("connections.expire_dead", as_of=as_of.isoformat())

    assert world.one("SELECT count(*) FROM crawler_order") == 6
    assert world.rung.of("connections.expire_dead") == [{"as_of": as_of}]
    world.sweep(as_of)
    assert world.one("SELECT count(*) FROM crawler_order") == 0
    assert world.one("SELECT sum(losses) FROM job_queue") == 10


def test_a_sweep_rings_for_jobs_that_are_due(world: World) -> None:
    """Where beat is silent, backed-off jobs are found all the same."""
    world.sweep()
    assert world.rung.of("jobs.assign") == []
    world.jobs(1)
    world.rung.bells.clear()
    world.deliver("connections.expire_dead", as_of=world.now().isoformat())
    assert world.rung.of("jobs.assign") == [{}]


def test_a_live_connection_stays_hot(world: World) -> None:
    """A heartbeat changes no indexed column and finds room on its page."""
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


def test_a_goodbye_a_sweep_and_a_round_of_upkeep_delivered_twice_are_as_once(world: World) -> None:
    """The same message again, and the same as_of again, change nothing more."""
    leaving, _ = world.working(2)
    silent, _ = world.working(2)
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
