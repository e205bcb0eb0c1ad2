"""What a matchmaking pass costs: it follows the batch and the accounts, never how many jobs wait."""

from typing import NamedTuple

import pytest
from sqlalchemy import text

from support.world import World
from tasks.assignment import seat_jobs

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

LOOKED_AT = text("""
    SELECT sum(pg_stat_get_xact_blocks_fetched(oid))::int AS buffers,
           (sum(pg_stat_get_xact_tuples_returned(oid)) FILTER (WHERE relname LIKE 'job_queue%'))::int AS rows
      FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
""")


@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "never analyzed"])
def test_a_pass_looks_at_no_more_where_more_jobs_wait(world: World, analyzed: bool) -> None:  # noqa: FBT001
    """Ten times as many, of as many accounts, and whatever the planner knows of them."""
    world.rows(ADD_ACCOUNTS, accounts=ACCOUNTS)
    world.rows(ADD_CONNECTIONS, seats=SEATS)

    costs = []
    for first, last in ((1, FEW), (FEW + 1, MANY)):
        world.rows(ADD_JOBS, first=first, last=last, accounts=ACCOUNTS, url=ONE_HOST)
        world.rows("ANALYZE" if analyzed else "DELETE FROM pg_statistic")
        costs.append(cost_of_a_pass(world))

    few, many = costs
    assert many.rows <= 5 * (SEATS + ACCOUNTS), costs
    assert many.buffers <= 1.5 * few.buffers, costs  # some indexes have one level more


class Cost(NamedTuple):
    """Pages of all tables and indexes that were looked at, and rows of the queue that were read."""

    buffers: int
    rows: int


def cost_of_a_pass(world: World) -> Cost:
    """Of one that fills SEATS seats, and is rolled back."""
    with world.unit() as uow:
        before = Cost(*uow._session.execute(LOOKED_AT).one())
        assert seat_jobs(uow) == SEATS
        after = Cost(*uow._session.execute(LOOKED_AT).one())
    return Cost(after.buffers - before.buffers, after.rows - before.rows)
