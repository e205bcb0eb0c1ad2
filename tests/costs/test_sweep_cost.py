"""The cost of requeueing lost jobs follows their number, not the number of live attempts."""

import pytest

from persistence.unit_of_work import UnitOfWork
from support.costs import cost
from support.worlds.world import World
from tasks.fleet.sweep import sweep

SLOTS = 100
FEW, MANY = 2000, 20_000

AT_WORK = """
    WITH jobs AS (
        INSERT INTO job (id, command, full_path, "accountId", status)
        SELECT 'at-work-' || n, 'issues', 'at-work/' || n, 'acc', 'running'
          FROM generate_series(CAST(:first AS int), :last) n
     RETURNING id
    )
    INSERT INTO job_assignment_mapping (id, crawler_job_id, web_app_job_id, connection_id, account_id, assigned_at)
    SELECT lpad(right(id, -8), 26, '0'), lpad(right(id, -8), 26, '0'), id, :crawler, 'acc', now() FROM jobs
"""


@pytest.mark.fresh_tables
@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "never analyzed"])
def test_requeueing_reads_no_live_attempts(world: World, analyzed: bool) -> None:  # noqa: FBT001
    """The second time, ten times as many attempts are live while one crawler with many jobs is dead."""
    dead, _ = world.crawler_with_jobs(SLOTS)
    dead.silent_for(60)
    living = world.crawler()

    costs = []
    for first, last in ((1, FEW), (FEW + 1, MANY)):
        world.rows(AT_WORK, first=first, last=last, crawler=living.id)
        world.rows("ANALYZE" if analyzed else "DELETE FROM pg_statistic")
        costs.append(cost_of_a_sweep(world))
    few, many = costs
    assert many <= 1.5 * few, costs  # some indexes have one level more


def cost_of_a_sweep(world: World) -> int:
    """The pages of tables and indexes that the first unit of a sweep reads; it is rolled back."""
    world.rows("UPDATE liveness_state SET last_sweep_at = clock_timestamp()")
    with world.unit() as uow:
        return cost(uow, requeue_all).pages


def requeue_all(uow: UnitOfWork) -> None:
    """Run one unit, which requeues all jobs of the dead crawler and no others."""
    assert sweep(uow, uow.now()) == SLOTS
