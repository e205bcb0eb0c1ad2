"""Scenarios of commands over many jobs, in chunks of two."""

from typing import Any

from proofs.crashes.scenario import scenario
from support.worlds.discoveries import Discoverer, group, project
from support.worlds.stages import at_every_stage
from support.worlds.world import World

Payload = dict[str, Any]

IN_CHUNKS: dict[str, Any] = {"tasks.jobs.selections.CHUNK_JOBS": 2, "tasks.jobs.accounts.CHUNK_ATTEMPTS": 1}
CAPPED = {"CRAWLYARD_PENDING_CAP": "3"}
ACCOUNT = {"account_id": "acc"}


def family(world: World) -> Discoverer:
    """Return a discovery with children, most of them deferred."""
    discoverer = Discoverer.at_work(world)
    discoverer.finds(group("team", 7), project("team/1", 1))
    return discoverer


@scenario("jobs.cancel", constants=IN_CHUNKS)
def cancel_an_account(world: World) -> Payload:
    """Cancel an account with jobs at every stage."""
    at_every_stage(world)
    return ACCOUNT | {"reason": "no longer needed"}


@scenario("jobs.cancel", constants=IN_CHUNKS, settings=CAPPED)
def cancel_a_tree(world: World) -> Payload:
    """Cancel a running discovery with its children, deferred ones included."""
    return {"subtree_of": family(world).job_id}


@scenario("jobs.cancel", constants=IN_CHUNKS | {"tasks.runtime.chunks.TIME_LIMIT_S": 0.0})
def cancel_in_several_deliveries(world: World) -> Payload:
    """Cancel with a message that goes back into its queue after each chunk."""
    return {"job_ids": world.jobs(3)}


@scenario("jobs.pause", constants=IN_CHUNKS)
def pause_jobs(world: World) -> Payload:
    """Pause jobs at every stage by their ids."""
    return {"job_ids": list(at_every_stage(world).values())}


@scenario("jobs.pause", constants=IN_CHUNKS)
def pause_an_account(world: World) -> Payload:
    """Pause an account with two live attempts."""
    world.crawler_with_jobs(2)
    return ACCOUNT | {"reason": "its owner asked for it"}


@scenario("jobs.pause")
def pause_an_unknown_account(_: World) -> Payload:
    """Pause an account that does not exist."""
    return {"account_id": "unknown"}


@scenario("jobs.resume", constants=IN_CHUNKS)
def resume_jobs(world: World) -> Payload:
    """Resume jobs paused by jobs.pause and by the web app."""
    jobs = world.jobs(3)
    world.deliver("jobs.pause", job_ids=jobs)
    world.rows("UPDATE job SET status = 'paused' WHERE id = :id", id=world.jobs(1)[0])
    return {"area": "group"}


@scenario("jobs.resume", settings=CAPPED)
def resume_an_account(world: World) -> Payload:
    """Resume an account with deferred jobs."""
    family(world)
    world.deliver("jobs.pause", **ACCOUNT)
    return ACCOUNT


@scenario("jobs.retry", constants=IN_CHUNKS)
def retry(world: World) -> Payload:
    """Retry failed jobs, one of them with a live attempt."""
    jobs = [at_every_stage(world)["failed"], *world.jobs(2)]
    _, _ = world.crawler_with_jobs(1)
    world.rows("UPDATE job SET status = 'failed', finished_at = now() WHERE status = 'queued'")
    assert jobs
    return ACCOUNT


@scenario("jobs.prioritize", constants=IN_CHUNKS, settings=CAPPED)
def prioritize(world: World) -> Payload:
    """Prioritize waiting and deferred jobs."""
    family(world)
    return ACCOUNT | {"priority": 7}
