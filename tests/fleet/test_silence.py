"""One rule says which connections are silent."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from persistence.db.engine import engine
from persistence.fleet.connections import Connections
from persistence.reports.status import connection_counts
from persistence.schema.tables import SocketConnection
from persistence.settings import settings
from support.worlds.world import World


@pytest.mark.parametrize(
    ("beyond", "silent"),
    [(timedelta(0), 0), (timedelta(microseconds=1), 1)],
    ids=["at the limit", "a microsecond beyond it"],
)
def test_status_and_the_sweep_agree_who_is_silent(world: World, beyond: timedelta, silent: int) -> None:
    """To the microsecond, at the same moment."""
    world.crawler()
    with engine().connect() as connection:
        now = connection.scalars(select(func.now())).one()
        last = now - settings().longest_silence - beyond
        connection.execute(update(SocketConnection).values(last_heartbeat=last))
        connections = Connections(Session(connection))

        assert connection_counts(connection).silent == silent
        assert connections.count(now).silent == silent
        assert len(connections.lock_closable(now, 1000)) == silent
