"""Who is silent; and the sweep when many are at once, or after an outage of ours: it waits, and counts no losses."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from persistence.db.engine import engine
from persistence.fleet.connections import Connections
from persistence.reports.status import connection_counts
from persistence.schema.tables import SocketConnection
from persistence.settings import settings
from support.worlds.world import World


def test_after_a_gap_between_sweeps_nothing_expires_for_one_timeout(world: World) -> None:
    """The heartbeats of an outage of ours are lost, which is not the fault of the crawlers."""
    crawler, orders = world.crawler_with_jobs()
    crawler.silent_for(60)
    world.rows("UPDATE liveness_state SET last_sweep_at = clock_timestamp() - interval '3.5 seconds'")

    world.deliver("connections.expire_dead", as_of=world.now().isoformat())

    assert crawler.orders() == orders
    grace = world.scalar("SELECT grace_until - clock_timestamp() FROM liveness_state")
    assert timedelta(seconds=8) < grace < timedelta(seconds=9)
    world.rows("UPDATE liveness_state SET grace_until = clock_timestamp(), last_sweep_at = clock_timestamp()")
    world.deliver("connections.expire_dead", as_of=world.now().isoformat())
    assert crawler.orders() == []


@pytest.mark.parametrize("last", [None, "1 hour"])
def test_the_first_sweep_and_one_after_a_clock_set_back_expire_nothing(
    world: World, last: str | None
) -> None:
    """If the length of the gap is unknown, it counts as an outage."""
    crawler, orders = world.crawler_with_jobs()
    crawler.silent_for(60)
    world.rows(
        "UPDATE liveness_state SET last_sweep_at = clock_timestamp() + CAST(:last AS interval)", last=last
    )

    world.deliver("connections.expire_dead", as_of=world.now().isoformat())

    assert crawler.orders() == orders
    assert world.scalar("SELECT last_sweep_at <= clock_timestamp() FROM liveness_state")


def test_mass_silence_waits_one_more_timeout_and_counts_no_losses(world: World) -> None:
    """After a deploy, or behind a dead gateway, the sweep waits, then closes all and counts no loss in any unit."""
    crawlers = [world.crawler(capacity=1) for _ in range(12)]
    world.jobs(12)
    world.assign()
    for crawler in crawlers[:7]:
        crawler.silent_for(60)

    world.sweep()
    assert world.scalar("SELECT count(*) FROM crawler_order") == 12
    assert world.scalar("SELECT grace_until > clock_timestamp() + interval '8 seconds' FROM liveness_state")

    world.sweep()  # which begins with the grace over
    assert world.scalar("SELECT count(*) FROM crawler_order") == 5
    assert world.scalar("SELECT sum(losses) FROM job_queue") == 0
    assert world.scalar("SELECT count(*) FROM job_error_log WHERE error_type = 'ConnectionLost'") == 7
    assert world.scalar("SELECT mass_as_of FROM liveness_state") is None


def test_a_dead_gateway_is_detected_although_its_crawlers_time_out_one_by_one(world: World) -> None:
    """Their heartbeats are spread over an interval: when the first times out, the others have missed one too."""
    crawlers = [world.crawler(capacity=1) for _ in range(12)]
    world.jobs(12)
    world.assign()
    for number, crawler in enumerate(crawlers):
        crawler.silent_for(6.5 + number * 0.25)  # a timeout of 9 s, beats every 3 s

    world.sweep()

    assert world.scalar("SELECT count(*) FROM crawler_order") == 12
    assert world.scalar("SELECT mass_waited_at IS NOT NULL FROM liveness_state")


def test_a_late_older_sweep_does_not_end_the_mass_silence(world: World) -> None:
    """What the older sweep does not find is still to be closed by the sweep that found the mass silence."""
    world.crawler()
    now = world.now()
    world.rows(
        "UPDATE liveness_state SET mass_as_of = :now, mass_waited_at = :now, last_sweep_at = :now", now=now
    )

    world.deliver("connections.expire_dead", as_of=(now - timedelta(seconds=1)).isoformat())
    assert world.scalar("SELECT mass_as_of FROM liveness_state") == now
    world.deliver("connections.expire_dead", as_of=world.now().isoformat())
    assert world.scalar("SELECT mass_as_of FROM liveness_state") is None


def test_less_than_half_of_a_fleet_expires_at_once_with_losses(world: World) -> None:
    """Half of the fleet or less counts as dead crawlers."""
    crawlers = [world.crawler(capacity=1) for _ in range(12)]
    world.jobs(12)
    world.assign()
    for crawler in crawlers[:6]:
        crawler.silent_for(60)

    world.sweep()

    assert world.scalar("SELECT count(*) FROM crawler_order") == 6
    assert world.scalar("SELECT sum(losses) FROM job_queue") == 6


def test_time_lost_in_an_outage_does_not_make_attempts_overdue(world: World) -> None:
    """A job is stalled, or never started, only if it had the whole time since the end of our outage."""
    crawler, orders = world.crawler_with_jobs(2)
    crawler.sends("job_started", orders[0])
    world.rows(
        "UPDATE job_assignment_mapping SET progressed_at = progressed_at - interval '2 hours',"
        " assigned_at = assigned_at - interval '2 hours'"
    )
    world.rows("UPDATE liveness_state SET grace_until = clock_timestamp() - interval '1 second'")

    world.sweep()

    assert sorted(crawler.orders()) == sorted(orders)


@pytest.mark.parametrize(
    ("beyond", "silent"),
    [(timedelta(0), 0), (timedelta(microseconds=1), 1)],
    ids=["at the limit", "a microsecond beyond it"],
)
def test_status_and_the_sweep_agree_who_is_silent(world: World, beyond: timedelta, silent: int) -> None:
    """To the microsecond, at the same moment."""
    world.crawler()
    with engine().connect() as connection:
        now = connection.scalars(select(func.now())).one()
        last = now - settings().longest_silence - beyond
        connection.execute(update(SocketConnection).values(last_heartbeat=last))
        connections = Connections(Session(connection))

        assert connection_counts(connection).silent == silent
        assert connections.count(now)[0].silent == silent
        assert len(connections.lock_closable(now, 1000)) == silent
