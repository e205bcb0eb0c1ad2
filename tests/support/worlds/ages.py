"""Jobs that ended some time ago, the clean-up that deletes them, and sessions that lock their rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

from persistence.db.engine import engine
from support.worlds.world import World


def clean_up(world: World) -> None:
    """Deliver upkeep.clean_up, long after the last time."""
    world.rows("UPDATE periodic_ring SET rung_at = rung_at - interval '1 day'")
    world.published.messages.clear()
    world.deliver("upkeep.clean_up")


def ended(world: World, count: int = 1, status: str = "finished", *, hours: int = 1) -> list[str]:
    """Create jobs that ended 7 days and this many hours ago."""
    job_ids = world.jobs(count)
    world.rows(
        "UPDATE job SET status = :status, finished_at = now() WHERE id = ANY (:ids)",
        status=status,
        ids=job_ids,
    )
    world.rows(
        "UPDATE job_queue SET status = CASE WHEN :status = 'finished' THEN 'completed' ELSE 'failed' END,"
        " settled_at = now() - make_interval(days => 7, hours => :hours) WHERE web_app_job_id = ANY (:ids)",
        status=status, hours=hours, ids=job_ids,
    )  # fmt: skip
    return job_ids


def left(world: World) -> set[str]:
    """The ids of all jobs."""
    return {job_id for (job_id,) in world.rows("SELECT id FROM job")}


def deleted(world: World) -> set[str]:
    """The jobs with an event of their deletion; each has at most one."""
    job_ids = [event.job_id for event in world.events("job_deleted")]
    assert len(job_ids) == len(set(job_ids))
    return set(job_ids)


@contextmanager
def somebody(sql: str, **values: Any) -> Iterator[None]:
    """Run statements in another session's transaction, which is rolled back at the end."""
    with engine().connect() as connection:
        connection.execute(text(sql), values)
        yield
        connection.rollback()
