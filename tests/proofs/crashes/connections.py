"""Scenarios of connections: they register, send heartbeats, disconnect, and die."""

from datetime import timedelta
from typing import Any

from ulid import ULID

from proofs.crashes.scenario import scenario
from support.worlds.links import OTHER_SESSION, attach, link, lose
from support.worlds.world import Crawler, World

Payload = dict[str, Any]

LONG_SILENT = 3600.0
IN_CHUNKS = {"tasks.fleet.sweep.CHUNK_JOBS": 2}


@scenario("connections.register")
def registration(world: World) -> Payload:
    """Register a crawler for which a job waits."""
    world.jobs(1)
    return {"connection_id": str(ULID()), "crawler_id": "one", "metadata": {"version": 3}}


@scenario("connections.register")
def registration_under_a_closed_id(world: World) -> Payload:
    """Register under the id of a closed connection."""
    crawler = world.crawler()
    world.deliver("connections.disconnect", connection_id=crawler.id)
    world.sweep()
    return {"connection_id": crawler.id}


@scenario("connections.register")
def registration_under_an_invalid_id(_: World) -> Payload:
    """Register under an id that is no ULID."""
    return {"connection_id": "one"}


@scenario("connections.heartbeat")
def heartbeats(world: World) -> Payload:
    """Send heartbeats, one with a list of jobs, one with a new capacity."""
    first, orders = world.crawler_with_jobs(2)
    second = world.crawler()
    return {
        "beats": [
            {"connection_id": first.id, "active_jobs": orders[:1], "system_status": "processing"},
            {"connection_id": second.id, "active_jobs": 0, "capacity": 9},
        ]
    }


@scenario("connections.heartbeat")
def heartbeats_of_unknown_and_closed_connections(world: World) -> Payload:
    """Send heartbeats of an unknown connection, an invalid id, a closed connection and an open one."""
    closed, live = world.crawler(), world.crawler()
    world.deliver("connections.disconnect", connection_id=closed.id)
    world.sweep()
    beats = [{"connection_id": id_} for id_ in (str(ULID()), "one", closed.id, live.id)]
    return {"beats": beats}


@scenario("connections.disconnect")
def disconnect(world: World) -> Payload:
    """Disconnect a crawler with a job."""
    crawler, _ = world.crawler_with_jobs(1)
    return {"connection_id": crawler.id, "reason": "deploy"}


@scenario("connections.attach")
def links(world: World) -> Payload:
    """Attach a new connection, a lost one, and one that belongs to another session."""
    world.jobs(1)
    new, lost, foreign = (str(ULID()) for _ in range(3))
    attach(world, link(lost, 1), link(foreign, 1, session_hash=OTHER_SESSION))
    lose(world, lost, 1)
    return {"links": [link(id_, 2) for id_ in (new, lost, foreign)]}


@scenario("connections.lost")
def lost_link(world: World) -> Payload:
    """Lose the link of a crawler with a job."""
    id_ = str(ULID())
    world.jobs(1)
    attach(world, link(id_, 1))
    world.assign()
    return {"connection_id": id_, "n": 1, "link": "link-1"}


def swept(world: World) -> Payload:
    """Return a sweep as of now, with no gap since the last one."""
    world.rows("UPDATE liveness_state SET last_sweep_at = clock_timestamp() - interval '1 second'")
    return {"as_of": world.now()}


@scenario("connections.expire_dead")
def publish_of_the_sweep(world: World) -> Payload:
    """A sweep without as_of only publishes itself."""
    world.crawler_with_jobs(1)
    return {}


@scenario("connections.expire_dead", constants=IN_CHUNKS, is_piecemeal=True)
def silence_and_disconnects(world: World) -> Payload:
    """Sweep a silent connection with a job at its last loss, a disconnected one and a live one, in chunks."""
    silent, orders = world.crawler_with_jobs(3)
    world.rows(
        "UPDATE job_queue q SET losses = 4 FROM job_assignment_mapping a"
        " WHERE a.web_app_job_id = q.web_app_job_id AND crawler_job_id = :order",
        order=orders[0],
    )
    leaving, _ = world.crawler_with_jobs(2)
    world.crawler_with_jobs(1)
    silent.silent_for(LONG_SILENT)
    world.deliver("connections.disconnect", connection_id=leaving.id)
    world.rows("UPDATE socket_connection SET goodbye_at = goodbye_at - interval '1 minute'")
    return swept(world)


@scenario("connections.expire_dead")
def lost_links(world: World) -> Payload:
    """Sweep a connection whose link was lost, with a job that its crawler has started and one that it never had."""
    world.jobs(2)
    id_ = str(ULID())
    attach(world, link(id_, 1, capacity=2))
    world.assign()
    crawler = Crawler(world, id_)
    crawler.sends("job_started", crawler.orders()[0])
    lose(world, id_, 1)
    world.rows("UPDATE socket_connection SET lost_at = lost_at - interval '1 minute'")
    return swept(world)


@scenario("connections.expire_dead")
def overdue_attempts(world: World) -> Payload:
    """Sweep a stalled, a never started and a disowned attempt, and one that has just gone missing."""
    crawler, (stalled, idle, disowned, missing) = world.crawler_with_jobs(4)
    crawler.sends("job_started", stalled)
    crawler.sends("heartbeat", activeJobs=[stalled, idle])
    ages = {
        stalled: "progressed_at = now() - interval '11 hours', assigned_at = now() - interval '12 hours'",
        idle: "assigned_at = now() - interval '2 hours'",
        disowned: "absent_since = now() - interval '1 hour', assigned_at = now() - interval '2 hours'",
        missing: "assigned_at = now() - interval '30 minutes'",
    }
    for order, aged in ages.items():
        world.rows(f"UPDATE job_assignment_mapping SET {aged} WHERE crawler_job_id = :order", order=order)
    world.rows("UPDATE socket_connection SET reported_at = now() - interval '1 minute'")
    return swept(world)


def fleet(world: World) -> None:
    """Create twelve crawlers with a job each, seven of them silent."""
    crawlers = [world.crawler(capacity=1) for _ in range(12)]
    world.jobs(12)
    world.assign()
    for crawler in crawlers[:7]:
        crawler.silent_for(LONG_SILENT)


@scenario("connections.expire_dead")
def half_a_fleet_is_silent(world: World) -> Payload:
    """Wait one timeout longer."""
    fleet(world)
    return swept(world)


@scenario("connections.expire_dead", constants={"tasks.fleet.sweep.CHUNK_JOBS": 3}, is_piecemeal=True)
def half_a_fleet_expires(world: World) -> Payload:
    """Close the connections after that, in chunks, without counting losses."""
    fleet(world)
    world.sweep()
    world.rows("UPDATE liveness_state SET grace_until = clock_timestamp() - interval '1 second'")
    return swept(world)


@scenario("connections.expire_dead")
def sweep_after_an_outage(world: World) -> Payload:
    """Close nothing after an outage of Crawlyard."""
    crawler, _ = world.crawler_with_jobs(1)
    crawler.silent_for(LONG_SILENT)
    return {"as_of": world.now()}


@scenario("connections.expire_dead")
def sweep_of_another_clock(world: World) -> Payload:
    """Reject a sweep as of a time in the future."""
    return {"as_of": world.now() + timedelta(hours=1)}
