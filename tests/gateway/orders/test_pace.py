"""A gateway sends few queries, whatever the number of its links."""

import asyncio

import pytest

from gateway.orders.feed import Feed
from gateway.orders.pace import BURST, QUERIES_PER_SECOND, Pace
from gateway.orders.reconcile import SLICES, Rotation
from gateway.orders.together import Together
from persistence.exceptions import DatabaseLost
from persistence.orders.session import OrderSession
from persistence.schema.ids import ConnectionId
from support.gateway.feeds import Told


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.mark.parametrize("wait", [0.0, 0.001, 0.015], ids=["at once", "1 ms apart", "15 ms apart"])
def test_no_more_than_fifty_queries_a_second_pass(wait: float) -> None:
    """A few at once; then they are spread."""
    clock = Clock()
    pace = Pace(clock=clock)
    passes = []
    for _ in range(500):
        passes.append(clock.now + max(0.0, pace.take()))
        clock.now = max(clock.now, passes[-1]) + wait

    for second in range(1, 9):
        within = [at for at in passes if second <= at - passes[0] < second + 1]
        assert len(within) <= QUERIES_PER_SECOND + 1
    assert sum(at == passes[0] for at in passes) <= BURST


def test_queries_that_were_not_sent_do_not_add_up() -> None:
    """After a quiet hour, too, only a few pass at once."""
    clock = Clock()
    pace = Pace(clock=clock)
    clock.now += 3600

    assert sum(pace.take() <= 0 for _ in range(100)) == BURST


def test_further_looks_after_a_wake_up_give_way() -> None:
    """Where wake-ups are many, they would only delay the first look after the next one."""
    feed = Feed(Told(), list, OrderSession("postgresql://nobody@127.0.0.1:9/nothing"))
    feed.wake()
    asyncio.run(feed._rest())
    assert len(feed._looks) == 2

    for _ in range(BURST):
        feed._pace.take()
    asyncio.run(feed._rest())
    assert feed._looks == []


class Database:
    """Answers questions, and counts them."""

    def __init__(self) -> None:
        self.queries: list[list[str]] = []
        self.error: Exception | None = None

    async def query(self, keys: list[str]) -> dict[str, str]:
        """Answer all but `unknown`."""
        self.queries.append(keys)
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return {key: key.upper() for key in keys if key != "unknown"}


def test_what_many_ask_at_the_same_time_is_one_query() -> None:
    """Everybody gets the answer to his own question."""
    database = Database()

    async def ask() -> list[str | None]:
        together = Together(database.query, Pace(), most=3)
        return await asyncio.gather(*(together.ask(key) for key in ("a", "b", "a", "unknown", "c")))

    assert asyncio.run(ask()) == ["A", "B", "A", None, "C"]
    assert database.queries == [["a", "b", "unknown"], ["c"]]


def test_an_error_is_raised_to_all_who_asked() -> None:
    """And the next question is asked all the same."""
    database = Database()

    async def ask() -> None:
        together = Together(database.query, Pace())
        database.error = DatabaseLost("gone")
        answers = await asyncio.gather(*(together.ask(key) for key in "ab"), return_exceptions=True)
        assert [type(answer) for answer in answers] == [DatabaseLost, DatabaseLost]
        database.error = None
        assert await together.ask("a") == "A"

    asyncio.run(ask())


def test_who_gives_up_takes_no_answer_from_others() -> None:
    """A link that closes while it waits."""
    database = Database()

    async def ask() -> None:
        together = Together(database.query, Pace())
        impatient = asyncio.create_task(together.ask("a"))
        patient = asyncio.create_task(together.ask("a"))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await patient == "A"

    asyncio.run(ask())


def test_each_link_is_compared_once_a_minute() -> None:
    """Those that come and go meanwhile do not disturb that."""
    links = {ConnectionId(f"c{n}"): None for n in range(1000)}
    rotation = Rotation(links.keys)
    compared = []
    for second in range(SLICES):
        ids = rotation.next(float(second))
        rotation.compared()
        assert rotation.next(second + 0.5) == []
        assert len(ids) <= 1000 / SLICES + 1
        compared += ids
        links.pop(ConnectionId(f"c{999 - second}"), None)

    assert set(compared) >= links.keys()


def test_links_that_were_not_compared_come_again() -> None:
    """In their order."""
    links = {ConnectionId(f"c{n}"): None for n in range(3)}
    rotation = Rotation(links.keys)
    rotation.resync()
    ids = rotation.next(0.0)
    rotation.put_back(ids)
    assert rotation.is_resyncing

    assert rotation.next(0.0) == ids
    rotation.compared()
    assert not rotation.is_resyncing
