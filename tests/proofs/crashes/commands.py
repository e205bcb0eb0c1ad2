"""Scenarios of commands over many jobs, in units of two."""

from typing import Any

from proofs.crashes.scenario import scenario
from support.worlds.discoveries import Discoverer, group, project
from support.worlds.stages import at_every_stage
from support.worlds.world import World

Payload = dict[str, Any]

IN_UNITS: dict[str, Any] = {"tasks.jobs.selections.CHUNK_JOBS": 2, "tasks.jobs.accounts.CHUNK_ATTEMPTS": 1}
CAPPED = {"CRAWLYARD_PENDING_CAP": "3"}
ACCOUNT = {"account_id": "acc"}


def family(world: World) -> Discoverer:
    """A discovery with children, most of them deferred."""
    discoverer = Discoverer.at_work(world)
    discoverer.finds(group("team", 7), project("team/1", 1))
    return discoverer


@scenario("jobs.cancel", constants=IN_UNITS)
def cancel_an_account(world: World) -> Payload:
    """Jobs at every stage."""
    at_every_stage(world)
    return ACCOUNT | {"reason": "nobody wants them"}


@scenario("jobs.cancel", constants=IN_UNITS, settings=CAPPED)
def cancel_a_tree(world: World) -> Payload:
    """With what is deferred of it, and the discovery at work."""
    return {"subtree_of": family(world).job_id}


@scenario("jobs.cancel", constants=IN_UNITS | {"tasks.runtime.chunks.TIME_LIMIT_S": 0.0})
def cancel_in_several_deliveries(world: World) -> Payload:
    """A command that goes back into its queue behind each unit."""
    return {"job_ids": world.jobs(3)}


@scenario("jobs.pause", constants=IN_UNITS)
def pause_jobs(world: World) -> Payload:
    """Those at every stage, by their ids."""
    return {"job_ids": list(at_every_stage(world).values())}


@scenario("jobs.pause", constants=IN_UNITS)
def pause_an_account(world: World) -> Payload:
    """With two attempts to be revoked."""
    world.crawler_with_jobs(2)
    return ACCOUNT | {"reason": "its owner asked for it"}


@scenario("jobs.pause")
def pause_nobody(_: World) -> Payload:
    """An account that does not exist."""
    return {"account_id": "nobody"}


@scenario("jobs.resume", constants=IN_UNITS)
def resume_jobs(world: World) -> Payload:
    """Paused by us, and by the web app."""
    jobs = world.jobs(3)
    world.deliver("jobs.pause", job_ids=jobs)
    world.rows("UPDATE job SET status = 'paused' WHERE id = :id", id=world.jobs(1)[0])
    return {"area": "group"}


@scenario("jobs.resume", settings=CAPPED)
def resume_an_account(world: World) -> Payload:
    """Something is deferred for it."""
    family(world)
    world.deliver("jobs.pause", **ACCOUNT)
    return ACCOUNT


@scenario("jobs.retry", constants=IN_UNITS)
def retry(world: World) -> Payload:
    """Jobs that have failed, one of them while it is worked on."""
    jobs = [at_every_stage(world)["failed"], *world.jobs(2)]
    _, _ = world.crawler_with_jobs(1)
    world.rows("UPDATE job SET status = 'failed', finished_at = now() WHERE status = 'queued'")
    assert jobs
    return ACCOUNT


@scenario("jobs.prioritize", constants=IN_UNITS, settings=CAPPED)
def prioritize(world: World) -> Payload:
    """Jobs that wait, and what is deferred."""
    family(world)
    return ACCOUNT | {"priority": 7}
