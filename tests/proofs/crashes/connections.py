"""Scenarios of connections: they open, beat, say goodbye, and die."""

from datetime import timedelta
from typing import Any

from ulid import ULID

from proofs.crashes.scenario import scenario
from support.worlds.world import World

Payload = dict[str, Any]

LONG_SILENT = 3600.0
IN_UNITS = {"tasks.fleet.sweep.CHUNK_JOBS": 2}


@scenario("connections.register")
def arrival(world: World) -> Payload:
    """A crawler comes, and a job waits for it."""
    world.jobs(1)
    return {"connection_id": str(ULID()), "crawler_id": "one", "metadata": {"version": 3}}


@scenario("connections.register")
def arrival_under_a_closed_id(world: World) -> Payload:
    """An id serves once."""
    crawler = world.crawler()
    world.deliver("connections.disconnect", connection_id=crawler.id)
    world.sweep()
    return {"connection_id": crawler.id}


@scenario("connections.register")
def arrival_of_nobody(_: World) -> Payload:
    """The id is none."""
    return {"connection_id": "one"}


@scenario("connections.heartbeat")
def beats(world: World) -> Payload:
    """Plain ones; with a list of jobs, and a new capacity."""
    first, orders = world.crawler_with_jobs(2)
    second = world.crawler()
    return {
        "beats": [
            {"connection_id": first.id, "active_jobs": orders[:1], "system_status": "processing"},
            {"connection_id": second.id, "active_jobs": 0, "capacity": 9},
        ]
    }


@scenario("connections.heartbeat")
def beats_of_strangers(world: World) -> Payload:
    """One of nobody, one that is no beat, one of a closed connection, one that is good."""
    closed, live = world.crawler(), world.crawler()
    world.deliver("connections.disconnect", connection_id=closed.id)
    world.sweep()
    beats = [{"connection_id": id_} for id_ in (str(ULID()), "one", closed.id, live.id)]
    return {"beats": beats}


@scenario("connections.disconnect")
def disconnect(world: World) -> Payload:
    """Of a crawler at work."""
    crawler, _ = world.crawler_with_jobs(1)
    return {"connection_id": crawler.id, "reason": "deploy"}


def swept(world: World) -> Payload:
    """A sweep as of now, the last one having been in time."""
    world.rows("UPDATE liveness_state SET last_sweep_at = clock_timestamp() - interval '1 second'")
    return {"as_of": world.now()}


@scenario("connections.expire_dead")
def publish_of_the_sweep(world: World) -> Payload:
    """Without as_of it only rings."""
    world.crawler_with_jobs(1)
    return {}


@scenario("connections.expire_dead", constants=IN_UNITS, is_piecemeal=True)
def silence_and_disconnects(world: World) -> Payload:
    """Of one silent job too many was lost already, one said goodbye, one lives; more than a unit."""
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
    return swept(world)


@scenario("connections.expire_dead")
def jobs_gone_astray(world: World) -> Payload:
    """One has stalled, one never began, one is not on its crawler's list; and one is, just now."""
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
    """Twelve crawlers with a job each; seven fell silent."""
    crawlers = [world.crawler(capacity=1) for _ in range(12)]
    world.jobs(12)
    world.assign()
    for crawler in crawlers[:7]:
        crawler.silent_for(LONG_SILENT)


@scenario("connections.expire_dead")
def half_a_fleet_is_silent(world: World) -> Payload:
    """It is given one timeout more."""
    fleet(world)
    return swept(world)


@scenario("connections.expire_dead", constants={"tasks.fleet.sweep.CHUNK_JOBS": 3}, is_piecemeal=True)
def half_a_fleet_expires(world: World) -> Payload:
    """It has had its time: it is taken, in units, and nobody is blamed."""
    fleet(world)
    world.sweep()
    world.rows("UPDATE liveness_state SET grace_until = clock_timestamp() - interval '1 second'")
    return swept(world)


@scenario("connections.expire_dead")
def sweep_after_an_outage(world: World) -> Payload:
    """It was ours: nothing is taken."""
    crawler, _ = world.crawler_with_jobs(1)
    crawler.silent_for(LONG_SILENT)
    return {"as_of": world.now()}


@scenario("connections.expire_dead")
def sweep_of_another_clock(world: World) -> Payload:
    """As of a time that is yet to come."""
    return {"as_of": world.now() + timedelta(hours=1)}
