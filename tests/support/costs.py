"""The cost of an action as the server counts it: pages and entries, not time, so it is the same everywhere."""

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import text

from persistence.unit_of_work import UnitOfWork

_COUNTERS = text("""
    SELECT sum(pg_stat_get_xact_blocks_fetched(oid))::int AS pages,
           (sum(pg_stat_get_xact_tuples_returned(oid)) FILTER (WHERE relname LIKE 'job_queue%'))::int AS entries
      FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
""")


class Cost(NamedTuple):
    """Fetched pages of all tables and indexes, cached or not, and entries read from the queue."""

    pages: int
    entries: int


def cost(uow: UnitOfWork, action: Callable[[UnitOfWork], object]) -> Cost:
    """Measure *action* in this transaction."""
    before = Cost(*uow._session.execute(_COUNTERS).one())
    action(uow)
    after = Cost(*uow._session.execute(_COUNTERS).one())
    return Cost(after.pages - before.pages, after.entries - before.entries)
