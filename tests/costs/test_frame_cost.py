"""The cost of frames follows the size of their batch, also while an open snapshot keeps all dead row versions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from persistence.db.engine import engine
from persistence.settings import settings
from support.costs import cost
from support.worlds.world import World
from tasks.fleet.batch import FrameBatch
from tasks.fleet.frames import apply_batch
from tasks.fleet.refused import RefusedFrames

SLOTS = 100
FEW, MANY = 3000, 30_000

LIVED = """
    WITH jobs AS (
        INSERT INTO job (id, command, full_path, "accountId", status)
        SELECT 'lived-' || n, 'issues', 'lived/' || n, 'acc', 'finished'
          FROM generate_series(CAST(:first AS int), :last) n
     RETURNING id
    )
    INSERT INTO job_assignment_mapping (id, crawler_job_id, web_app_job_id, connection_id, account_id, assigned_at)
    SELECT lpad(right(id, -6), 26, '0'), lpad(right(id, -6), 26, '0'), id, :crawler, 'acc', now() FROM jobs
"""

ENDED = """
    UPDATE job_assignment_mapping SET status = 'completed', completed_at = now()
     WHERE web_app_job_id LIKE 'lived-%' AND completed_at IS NULL
"""


@contextmanager
def open_snapshot() -> Iterator[None]:
    """Hold a snapshot open, so that no row version that dies meanwhile can be removed."""
    # Another program's: ours would be ended while it is idle.
    with psycopg.connect(settings().session_url) as session:
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.execute("SELECT count(*) FROM job")
        yield


@pytest.mark.fresh_tables
@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "never analyzed"])
def test_applying_frames_costs_no_more_beside_an_open_snapshot(world: World, analyzed: bool) -> None:  # noqa: FBT001
    """The second time, ten times as many attempts have ended and are still in the index of live attempts."""
    crawler, orders = world.crawler_with_jobs(SLOTS)
    frames = [crawler.frame("job_started", order) for order in orders]

    costs = []
    with open_snapshot():
        for first, last in ((1, FEW), (FEW + 1, MANY)):
            world.rows(LIVED, first=first, last=last, crawler=crawler.id)
            world.rows(ENDED)
            world.rows("ANALYZE" if analyzed else "DELETE FROM pg_statistic")
            costs.append(cost_of_frames(world, frames))
    few, many = costs
    assert many <= 1.8 * few, costs  # some indexes have one level more


def cost_of_frames(world: World, frames: list[dict[str, Any]]) -> int:
    """The pages of tables and indexes that one batch reads; it is rolled back."""
    with world.unit() as uow:
        batch = FrameBatch.parse(frames)
        return cost(uow, lambda uow: apply_batch(uow, batch, RefusedFrames(frames, batch, "m"))).pages


def test_no_statement_runs_with_empty_parameters(world: World) -> None:
    """The planner may serve an empty list of ids from any partial index, and read all of it."""
    empty = []

    def note(*execution: Any) -> None:
        _connection, _cursor, statement, parameters, *_ = execution
        if parameters.get("ids") == []:
            empty.append(statement)

    event.listen(engine(), "before_cursor_execute", note)
    try:
        crawler, [order, other] = world.crawler_with_jobs(2)
        crawler.sends("job_started", order)
        crawler.sends("job_progress", order, completion=0.5)
        crawler.sends("job_completed", order, success=True, finalCounts={})
        crawler.sends("job_completed", order, success=True, finalCounts={})
        crawler.fails(other)
        world.deliver("jobs.enqueue", job_ids=[world.insert_job()])
        world.assign()
    finally:
        event.remove(engine(), "before_cursor_execute", note)
    assert empty == []
