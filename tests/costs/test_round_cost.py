"""The cost of an assignment round follows the jobs it assigns and the accounts, not the number of waiting jobs."""

import pytest

from persistence.unit_of_work import UnitOfWork
from support.costs import Cost, cost
from support.worlds.world import World
from tasks.assign.rounds import assign_jobs

FEW, MANY = 5000, 50_000
ACCOUNTS, SLOTS = 100, 200

ONE_HOST = "https://gitlab.example.org/api/graphql"

ADD_ACCOUNTS = "INSERT INTO account (id) SELECT 'account-' || n FROM generate_series(0, :accounts - 1) n"

ADD_CONNECTIONS = """
    INSERT INTO socket_connection (id, capacity) SELECT lpad(n::text, 26, '0'), 5 FROM generate_series(1, :slots / 5) n
"""

ADD_JOBS = """
    WITH new AS (
        SELECT 'job-' || lpad(n::text, 8, '0') AS id, 'account-' || n % :accounts AS account, 'group/' || n AS path
          FROM generate_series(CAST(:first AS int), :last) n
    ), queues AS (
        INSERT INTO account_lane (account_id) SELECT DISTINCT account FROM new ON CONFLICT DO NOTHING
    ), bound AS (
        INSERT INTO account_origin (account_id, origin, bound_by)
        SELECT DISTINCT account, 'https://gitlab.example.org', 'operator' FROM new ON CONFLICT DO NOTHING
    ), jobs AS (
        INSERT INTO job (id, command, full_path, "accountId", "gitlabGraphQLUrl")
        SELECT id, 'issues', path, account, :url FROM new
    )
    INSERT INTO job_queue (id, web_app_job_id, account_id, host) SELECT id, id, account, 'gitlab.example.org' FROM new
"""


@pytest.mark.fresh_tables
@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "never analyzed"])
def test_the_cost_of_a_round_does_not_grow_with_waiting_jobs(world: World, analyzed: bool) -> None:  # noqa: FBT001
    """The second time, ten times as many jobs of as many accounts wait, with or without statistics."""
    world.rows(ADD_ACCOUNTS, accounts=ACCOUNTS)
    world.rows(ADD_CONNECTIONS, slots=SLOTS)

    costs = []
    for first, last in ((1, FEW), (FEW + 1, MANY)):
        world.rows(ADD_JOBS, first=first, last=last, accounts=ACCOUNTS, url=ONE_HOST)
        world.rows("ANALYZE" if analyzed else "DELETE FROM pg_statistic")
        costs.append(cost_of_a_round(world))

    few, many = costs
    assert many.entries <= 5 * (SLOTS + ACCOUNTS), costs
    assert many.pages <= 1.5 * few.pages, costs  # some indexes have one level more


def cost_of_a_round(world: World) -> Cost:
    """The cost of a round that fills all slots; it is rolled back."""
    with world.unit() as uow:
        return cost(uow, fill_all)


def fill_all(uow: UnitOfWork) -> None:
    """Run a round that leaves no slot free."""
    assert assign_jobs(uow) == SLOTS
