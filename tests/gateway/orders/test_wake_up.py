"""Units that change what a gateway acts upon wake gateways up after their commit, once, and others do not."""

import asyncio
from collections.abc import Callable

import pytest
import redis
from sqlalchemy import text

from gateway.orders import feed as feeds
from gateway.orders.feed import Feed
from persistence import unit_of_work as units
from persistence.db.engine import engine
from persistence.schema.event_types import EventType
from persistence.settings import settings
from support.gateway.feeds import Told
from support.processes.workers import free_port, wait_until
from support.worlds.links import attach, link
from support.worlds.world import World
from tasks import wake_up
from tasks.runtime import unit
from tasks.start.broker_client import open_client

ONE = "01J0000000000000000000CNN1"


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Returns how often gateways were woken up since the last time."""
    count = 0

    def send() -> None:
        nonlocal count
        count += 1

    def take() -> int:
        nonlocal count
        taken, count = count, 0
        return taken

    monkeypatch.setattr(unit, "wake_gateways", send)
    return take


def test_units_wake_gateways_up_that_assign_close_or_attach(world: World, woken: Callable[[], int]) -> None:
    """Once each, however much they change."""
    attach(world, link(ONE, 1, capacity=3))
    assert woken() == 1
    world.jobs(3)
    assert woken() == 0
    world.assign()
    assert woken() == 1
    orders = [id_ for (id_,) in world.rows("SELECT crawler_job_id FROM crawler_order ORDER BY 1")]

    def send(kind: str, order: str, **data: object) -> None:
        frame = {"type": kind, "timestamp": "2026-05-04T03:02:01Z", "jobId": order, "data": data}
        world.sends({"connection_id": ONE, "frame": frame})

    send("job_started", orders[0])
    send("job_progress", orders[0], stage="fetching", entityType="project", processed=1)
    assert woken() == 0
    send("job_completed", orders[0], success=True, finalCounts={})
    assert woken() == 1
    send("job_failed", orders[1], error="it broke", isRecoverable=True)
    assert woken() == 1
    world.deliver("jobs.cancel", account_id="acc")
    assert woken() == 1
    world.deliver("connections.heartbeat", beats=[{"connection_id": ONE}])
    assert woken() == 0


def test_gateways_are_woken_up_after_the_commit(database: str) -> None:
    """A gateway that looks at once finds what was committed."""
    seen = []

    def wake() -> None:
        with engine().connect() as other:
            seen.append(other.scalar(text("SELECT count(*) FROM dispatch_event")))

    with units.unit_of_work(lambda _task, _arguments: None, wake) as uow:
        uow.events.add(EventType.CONNECTION_LOST, connection_id=ONE)
        assert seen == []
        uow.commit()
        uow.commit()
    with units.unit_of_work(lambda _task, _arguments: None, wake) as uow:
        uow.events.add(EventType.CONNECTION_LOST, connection_id=ONE)

    assert seen == [1]


def test_without_a_broker_nothing_is_said(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """And it is not tried again in the next units: each would wait for it."""
    tried = []

    def publish(*message: object) -> None:
        tried.append(message)
        raise redis.ConnectionError

    client = open_client(f"redis://127.0.0.1:{free_port()}/0")
    monkeypatch.setattr(client, "publish", publish)
    monkeypatch.setattr(wake_up, "open_client", lambda _url, timeout_s: client)
    waker = wake_up.WakeUp()
    waker.send()
    waker.send()

    assert len(tried) == 1


def test_a_wake_up_lets_a_gateway_look(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Without it, this gateway would look an hour later."""
    monkeypatch.setattr(feeds, "POLL_S", 3600.0)
    crawler = world.crawler(capacity=1)
    world.jobs(1)
    told = Told()

    async def follow() -> None:
        feed = Feed(told, lambda: {crawler.id})
        running = asyncio.create_task(feed.run())
        await until(lambda: bool(told.rows) and is_subscribed())
        await asyncio.to_thread(world.assign)
        await until(lambda: bool(told.orders))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(follow())
    assert [*told.orders] == crawler.orders()


def is_subscribed() -> bool:
    """Whether a gateway listens for wake-ups."""
    with open_client(settings().broker_url) as client:
        ((_, listeners),) = client.pubsub_numsub(wake_up.channel(client))
    return bool(listeners)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition in the loop."""
    await asyncio.to_thread(wait_until, condition, "the gateway has looked")
