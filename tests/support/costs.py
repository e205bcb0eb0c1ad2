"""What is looked at for something, counted by the server: no clock, and so the same on every machine."""

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import text

from persistence.unit_of_work import UnitOfWork

_LOOKED_AT = text("""
    SELECT sum(pg_stat_get_xact_blocks_fetched(oid))::int AS pages,
           (sum(pg_stat_get_xact_tuples_returned(oid)) FILTER (WHERE relname LIKE 'job_queue%'))::int AS entries
      FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
""")


class Cost(NamedTuple):
    """Pages of all tables and indexes, cached or not, and entries of the queue."""

    pages: int
    entries: int


def cost(uow: UnitOfWork, action: Callable[[UnitOfWork], object]) -> Cost:
    """What *action* looks at in this transaction."""
    before = Cost(*uow._session.execute(_LOOKED_AT).one())
    action(uow)
    after = Cost(*uow._session.execute(_LOOKED_AT).one())
    return Cost(after.pages - before.pages, after.entries - before.entries)
