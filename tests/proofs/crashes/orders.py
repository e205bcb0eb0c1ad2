"""Scenarios of orders, rounds and errors."""

from typing import Any

from ulid import ULID

from proofs.crashes.scenario import scenario
from support.worlds.discoveries import Discoverer, project
from support.worlds.stages import at_every_stage
from support.worlds.world import World

Payload = dict[str, Any]


@scenario("jobs.submit")
def new_orders(world: World) -> Payload:
    """Submit orders with areas, and one without an id and with a secret in its metadata."""
    anonymous = world.order(metadata={"token": "glpat-abcdefghij0123456789"}, tags=["a"])
    del anonymous["web_app_job_id"]
    return {
        "orders": [
            world.order(namespace_path="team/1", entity_id="1"),
            world.order(namespace_path="team", command="group", entity_id="7", priority=5),
            anonymous,
        ]
    }


@scenario("jobs.submit")
def orders_for_what_exists(world: World) -> Payload:
    """Submit orders for a waiting job, a failed one by force, a cancelled one with resume, and one order twice."""
    jobs = at_every_stage(world)
    paths = {stage: world.job(id_).full_path for stage, id_ in jobs.items()}
    twice = world.order()
    return {
        "orders": [
            world.order(namespace_path=paths["pending"]),
            world.order(namespace_path=paths["failed"], force=True),
            world.order(namespace_path=paths["cancelled"], force=True, resume=True),
            twice,
            twice,
        ]
    }


@scenario("jobs.submit")
def refused_orders(world: World) -> Payload:
    """Submit invalid orders, one of an unknown account, one that collides with another host, and a good one."""
    world.submit(world.order(namespace_path="taken", branch="main"))
    return {
        "orders": [
            world.order(provider="github"),
            world.order(account_id="unknown"),
            world.order(namespace_path="taken", branch="main", gitlab_host="git.example.net"),
            world.order(namespace_path="x" * 999, branch="\N{SNOWMAN}" * 900),
            world.order(),
        ]
    }


@scenario("jobs.enqueue")
def own_jobs(world: World) -> Payload:
    """Enqueue new jobs, jobs that are queued again, an unknown one, and one of authorizationScope."""
    jobs = at_every_stage(world)
    world.rows("UPDATE job SET status = 'queued' WHERE id = ANY (:ids)", ids=[jobs["failed"], jobs["paused"]])
    own = [world.insert_job() for _ in range(2)]
    scope = world.insert_job(command="authorizationScope", full_path=None)
    return {"job_ids": [*own, jobs["failed"], jobs["paused"], str(ULID()), scope, 7]}


@scenario("jobs.assign")
def free_slots(world: World) -> Payload:
    """Assign jobs of two accounts to two crawlers, with a due retry and a job that the web app paused."""
    world.account("other")
    due, paused, *_ = world.jobs(3)
    world.jobs(2, account_id="other")
    world.rows(
        "UPDATE job_queue SET ready = false, scheduled_at = now() - interval '1 second' WHERE web_app_job_id = :id",
        id=due,
    )
    world.rows("UPDATE job SET status = 'paused' WHERE id = :id", id=paused)
    world.crawler(capacity=3)
    world.crawler(capacity=3)
    return {}


@scenario("jobs.assign")
def token_near_its_end(world: World) -> Payload:
    """Block an account whose token expires soon, and refresh it."""
    world.rows("UPDATE account SET access_token_expires_at = now() + interval '1 minute'")
    world.account("other")
    world.jobs(1)
    world.jobs(1, account_id="other")
    world.crawler()
    return {}


@scenario("jobs.assign", settings={"CRAWLYARD_PENDING_CAP": "4"})
def room_for_deferred(world: World) -> Payload:
    """Assign a job, which makes room for a deferred one."""
    Discoverer.at_work(world).finds(project("a", 1))
    world.crawler(capacity=4)
    return {}


@scenario("failures.log")
def errors(world: World) -> Payload:
    """Log errors by job, by attempt, of an unknown job, and an invalid one."""
    _, (order,) = world.crawler_with_jobs(1)
    (job_id,) = world.jobs(1)
    error = {"error_type": "Timeout", "error_message": "it took too long"}
    return {
        "errors": [
            error | {"job_id": job_id, "context": {"page": 3}},
            error | {"job_id": job_id},
            error | {"crawler_job_id": order, "is_recoverable": False},
            error | {"job_id": str(ULID())},
            {"job_id": job_id},
        ]
    }


@scenario("failures.resolve", constants={"tasks.error_log.resolve.CHUNK_ERRORS": 2})
def error_group(world: World) -> Payload:
    """Resolve more errors than one chunk, beside another group."""
    (job_id,) = world.jobs(1)
    log = {"job_id": job_id, "error_type": "Timeout"}
    world.deliver("failures.log", errors=[log | {"error_message": "it took too long"}] * 5)
    group = world.scalar("SELECT DISTINCT fingerprint FROM job_error_log")
    world.deliver("failures.log", errors=[log | {"error_message": "no disk is left"}])
    return {"error_group": group, "resolution": "the GitLab was slow"}
