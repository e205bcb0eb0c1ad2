"""Jobs in every stage of their life, for rules that must hold in all of them."""

from typing import Any

from support.worlds.world import World

STAGES = {
    "pending": ("queued", "pending", False),
    "assigned": ("queued", "processing", False),
    "running": ("running", "processing", False),
    "backed off": ("queued", "pending", False),
    "paused": ("paused", "pending", True),
    "credential expired": ("credential_expired", "pending", True),
    "finished": ("finished", "completed", False),
    "failed": ("failed", "failed", False),
    "cancelled": ("cancelled", "failed", False),
}
"""By stage: the status of the job, that of its entry, and whether the entry is parked."""


def at_every_stage(world: World, **order: Any) -> dict[str, str]:
    """Create one job of each stage; returns job ids by stage."""
    attempted = (
        "finished",
        "failed",
        "cancelled",
        "assigned",
        "running",
        "backed off",
    )  # no assignment round after the last
    jobs = {stage: _attempted(world, stage, **order) for stage in attempted}
    jobs["paused"], jobs["credential expired"], jobs["pending"] = world.jobs(3, **order)
    _set_status(world, jobs["paused"], "paused")
    _set_status(world, jobs["credential expired"], "credential_expired")
    world.deliver("upkeep.reconcile")
    assert {stage: stand(world, job_id) for stage, job_id in jobs.items()} == STAGES
    world.published.messages.clear()
    return jobs


def stand(world: World, job_id: str) -> tuple[str, str, bool]:
    """The state of a job and its entry, as in STAGES."""
    entry = world.entry(job_id)
    return world.job(job_id).status, entry.status, entry.held


def _attempted(world: World, stage: str, **order: Any) -> str:
    """Assign a job to a new crawler, and let it end in this way."""
    crawler, (fence,) = world.crawler_with_jobs(1, **order)
    attempt = "SELECT web_app_job_id FROM job_assignment_mapping WHERE crawler_job_id = :fence"
    job_id = str(world.scalar(attempt, fence=fence))
    match stage:
        case "finished":
            crawler.sends("job_completed", fence)
        case "failed":
            crawler.fails(fence, recoverable=False)
        case "cancelled":
            world.deliver("jobs.cancel", job_ids=[job_id])
        case "running":
            crawler.sends("job_started", fence)
        case "backed off":
            crawler.fails(fence)
    if stage not in ("assigned", "running"):
        world.deliver("connections.disconnect", connection_id=crawler.id)
    return job_id


def _set_status(world: World, job_id: str, status: str) -> None:
    world.rows("UPDATE job SET status = :status WHERE id = :id", status=status, id=job_id)
