"""What a unit of a sweep costs that gives the jobs of the dead back: it follows these, not what the living hold."""

import pytest

from persistence.unit_of_work import UnitOfWork
from support.costs import cost
from support.worlds.world import World
from tasks.fleet.sweep import sweep

SEATS = 100
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


@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "never analyzed"])
def test_requeueing_reads_no_live_attempts(world: World, analyzed: bool) -> None:  # noqa: FBT001
    """Ten times as many are at work while one crawler with many jobs is dead."""
    dead, _ = world.crawler_with_jobs(SEATS)
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
    """Pages of all tables and indexes that its first unit looks at, which is rolled back."""
    world.rows("UPDATE liveness_state SET last_sweep_at = clock_timestamp()")
    with world.unit() as uow:
        return cost(uow, take_all).pages


def take_all(uow: UnitOfWork) -> None:
    """One unit, of which the dead one's jobs are all that it takes."""
    assert sweep(uow, uow.now()) == SEATS
