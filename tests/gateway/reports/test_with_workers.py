"""Reports that a real worker with two children handles."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from ulid import ULID

from gateway.orders.lookups import HandledLookups
from gateway.orders.pace import Pace
from gateway.reports import discovery, in_flight
from gateway.reports.broker import RedisBroker
from gateway.reports.message import Message
from gateway.reports.reports import Reports
from persistence.orders.session import OrderSession
from persistence.schema.ids import ConnectionId
from support.gateway.listening import until
from support.gateway.reports import said
from support.gateway.systems import GatewaySystem

pytestmark = [pytest.mark.programs, pytest.mark.database]


class Reporter:
    """One crawler whose frames are reported without a gateway."""

    def __init__(self, system: GatewaySystem, reports: Reports) -> None:
        self.system = system
        self.reports = reports
        self.id = ConnectionId(str(ULID()))
        self.acked: list[str] = []

    async def attach(self) -> None:
        """Open its connection, the only one, with one slot; no job of another test is left to take it."""
        for table in ("job", "socket_connection"):
            self.rows(f"DELETE FROM {table} RETURNING id")
        link = {"connection_id": self.id, "n": 1, "link": "link", "gateway": "here", "capacity": 1}
        self.reports.attach(link | {"session_hash": "5e" * 32})
        await until(lambda: self.rows("SELECT 1 FROM socket_connection WHERE id = %s", self.id))

    async def order(self, **order: Any) -> tuple[str, str]:
        """Let a job be assigned to it; returns job and fence."""
        job = self.system.submit(**order)
        query = "SELECT crawler_job_id FROM crawler_order WHERE connection_id = %s"
        await until(lambda: self.rows(query, self.id))
        return job, self.rows(query, self.id)[0][0]

    def say(self, kind: str, fence: str, **data: Any) -> None:
        """Report a frame."""
        self.reports.add(self.id, said(kind, fence, data), lambda: self.acked.append(kind))

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Rows of the database."""
        return self.system.system.rows(query, *values)


@asynccontextmanager
async def reporter(
    system: GatewaySystem, lose: Callable[[Message], bool] = lambda _: False
) -> AsyncIterator[Reporter]:
    """A crawler whose messages the broker loses if *lose* says so."""
    broker = RedisBroker(system.system.broker_url)
    publish = broker.publish

    async def publish_some(messages: Any) -> None:
        await publish([message for message in messages if not lose(message)])

    broker.publish = publish_some  # type: ignore[method-assign]
    session = OrderSession(system.system.database_url)
    reports = Reports(broker, HandledLookups(session, Pace()))
    running = asyncio.create_task(reports.run())
    try:
        crawler = Reporter(system, reports)
        await crawler.attach()
        yield crawler
        assert await reports.flush(20)
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await session.close()
        await broker.close()


def test_an_end_and_a_loss_behind_large_messages_come_last(system: GatewaySystem) -> None:
    """Two children consume: either would apply the small message first."""

    async def live() -> None:
        async with reporter(system) as crawler:
            job, fence = await crawler.order()
            for n in range(1800):
                crawler.say("job_progress", fence, stage="fetching", entityType="issue", processed=n)
                if n % 450 == 0:
                    await asyncio.sleep(0.03)
            crawler.say("job_completed", fence)
            crawler.reports.lost(crawler.id, 1, "link")
            await until(
                lambda: crawler.rows(
                    "SELECT 1 FROM socket_connection WHERE id = %s AND lost_at IS NOT NULL", crawler.id
                )
            )
            assert len(crawler.acked) == 1801
            assert system.job(job) == "finished"
            stale = "SELECT stale_words FROM job_assignment_mapping WHERE crawler_job_id = %s"
            assert crawler.rows(stale, fence) == [(0,)]

    asyncio.run(live())


def test_a_large_discovery_is_applied_in_parts_before_its_end(
    system: GatewaySystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that it found is there, and nothing is rejected."""
    monkeypatch.setattr(discovery, "PART_BYTES", 16 * 1024)
    users = [{"id": str(n), "name": "x" * 200, "path": f"user-{n}"} for n in range(1, 151)]

    async def live() -> None:
        async with reporter(system) as crawler:
            job, fence = await crawler.order(command="GROUP_PROJECT_DISCOVERY", namespace_path=None)
            crawler.say("discovery", fence, entityType="user", entities=users)
            crawler.say("job_completed", fence)
            await until(lambda: crawler.acked == ["discovery", "job_completed"])
            (found,) = crawler.rows("SELECT progress -> 'discovery' FROM job WHERE id = %s", job)[0]
            assert crawler.rows("SELECT reason, detail FROM rejected_message") == []
            assert (found["users"], found["frames"]) == (150, 3)
            assert system.job(job) == "finished"

    asyncio.run(live())


def test_messages_that_the_broker_loses_are_published_again(
    system: GatewaySystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a FLUSHALL: attachments, frames and heartbeats."""
    monkeypatch.setattr(in_flight, "FIRST_REPEAT_S", 0.1)

    async def live() -> None:
        async with reporter(system, lose=lambda message: message.published == 0) as crawler:
            job, fence = await crawler.order()
            crawler.reports.beat(crawler.id, {"capacity": 3})
            crawler.say("job_failed", fence, error="it broke", isRecoverable=False)
            await until(lambda: crawler.acked)
            assert system.becomes(job, "failed")
            capacity = "SELECT capacity FROM socket_connection WHERE id = %s"
            await until(lambda: crawler.rows(capacity, crawler.id) == [(3,)])

    asyncio.run(live())
