"""The one session of a gateway: a database that does not answer is a lost one, and the next query opens another."""

import asyncio

import pytest

from persistence.exceptions import DatabaseFaultError, DatabaseLost
from persistence.orders.session import OrderSession
from support.gateway.feeds import followed
from support.processes.workers import free_port, wait_until
from support.worlds.world import World

_BACKENDS = """
    SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'
"""


def test_a_query_without_an_answer_counts_as_a_lost_database(database: str) -> None:
    """The session is dropped, since its answer may come at any time."""

    async def read() -> None:
        session = OrderSession(answer_s=0.5)
        assert await session.rows("SELECT 1") == [(1,)]
        with pytest.raises(DatabaseLost, match=r"did not answer within 0\.5 s"):
            await session.rows("SELECT pg_sleep(20)")
        assert await session.rows("SELECT 2") == [(2,)]
        assert session.opened == 2
        await session.close()

    asyncio.run(read())


def test_a_cancelled_query_takes_no_answer_of_another(world: World) -> None:
    """What is asked after it is answered by itself."""

    async def read() -> None:
        session = OrderSession()
        cancelled = asyncio.create_task(session.rows("SELECT pg_sleep(20)"))
        await asyncio.to_thread(wait_until, lambda: world.scalar(_BACKENDS), "the query runs")
        cancelled.cancel()
        assert await session.rows("SELECT 1") == [(1,)]
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await session.close()

    asyncio.run(read())


def test_a_faulty_query_leaves_the_session_open(database: str) -> None:
    """Nothing has been missed, so nothing is read anew."""
    with followed() as gateway:
        with pytest.raises(DatabaseFaultError):
            gateway.run(gateway.session.rows("SELECT nothing"))
        assert gateway.run(gateway.session.rows("SELECT 1")) == [(1,)]
        assert gateway.session.opened == 1


def test_a_database_that_is_away_is_a_lost_one() -> None:
    """And so it is for the next query."""

    async def read() -> None:
        session = OrderSession(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
        for _ in range(2):
            with pytest.raises(DatabaseLost):
                await session.rows("SELECT 1")

    asyncio.run(read())
