"""What a matchmaking pass costs: it follows the batch and the accounts, never how many jobs wait."""

import pytest

from persistence.unit_of_work import UnitOfWork
from support.costs import Cost, cost
from support.worlds.world import World
from tasks.assign.rounds import assign_jobs

FEW, MANY = 5000, 50_000
ACCOUNTS, SEATS = 100, 200

ONE_HOST = "https://gitlab.example.org/api/graphql"

ADD_ACCOUNTS = "INSERT INTO account (id) SELECT 'account-' || n FROM generate_series(0, :accounts - 1) n"

ADD_CONNECTIONS = """
    INSERT INTO socket_connection (id, capacity) SELECT lpad(n::text, 26, '0'), 5 FROM generate_series(1, :seats / 5) n
"""

ADD_JOBS = """
    WITH new AS (
        SELECT 'job-' || lpad(n::text, 8, '0') AS id, 'account-' || n % :accounts AS account, 'group/' || n AS path
          FROM generate_series(CAST(:first AS int), :last) n
    ), lanes AS (
        INSERT INTO account_lane (account_id) SELECT DISTINCT account FROM new ON CONFLICT DO NOTHING
    ), jobs AS (
        INSERT INTO job (id, command, full_path, "accountId", "gitlabGraphQLUrl")
        SELECT id, 'issues', path, account, :url FROM new
    )
    INSERT INTO job_queue (id, web_app_job_id, account_id, host) SELECT id, id, account, 'gitlab.example.org' FROM new
"""


@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "never analyzed"])
def test_the_cost_of_a_round_does_not_grow_with_waiting_jobs(world: World, analyzed: bool) -> None:  # noqa: FBT001
    """Ten times as many, of as many accounts, and whatever the planner knows of them."""
    world.rows(ADD_ACCOUNTS, accounts=ACCOUNTS)
    world.rows(ADD_CONNECTIONS, seats=SEATS)

    costs = []
    for first, last in ((1, FEW), (FEW + 1, MANY)):
        world.rows(ADD_JOBS, first=first, last=last, accounts=ACCOUNTS, url=ONE_HOST)
        world.rows("ANALYZE" if analyzed else "DELETE FROM pg_statistic")
        costs.append(cost_of_a_pass(world))

    few, many = costs
    assert many.entries <= 5 * (SEATS + ACCOUNTS), costs
    assert many.pages <= 1.5 * few.pages, costs  # some indexes have one level more


def cost_of_a_pass(world: World) -> Cost:
    """Of one that fills SEATS seats, and is rolled back."""
    with world.unit() as uow:
        return cost(uow, fill_all)


def fill_all(uow: UnitOfWork) -> None:
    """A pass that leaves no seat free."""
    assert assign_jobs(uow) == SEATS
