"""Publishing to a real Redis, which may be away."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.reports import reports as module
from gateway.reports.broker import BrokerAwayError, RedisBroker
from gateway.reports.message import Message
from gateway.reports.reports import Reports
from persistence.schema.ids import ConnectionId
from support.gateway.listening import until
from support.gateway.reports import Workers, said
from support.processes.workers import Valkey, running
from tasks.worker.envelope import read

pytestmark = pytest.mark.programs


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server of the test itself."""
    server = Valkey(tmp_path)
    with running(server):
        yield server


def test_messages_come_into_their_queues(valkey: Valkey) -> None:
    """Below the prefix, and with the deployment's name, in their order."""

    async def publish() -> None:
        broker = RedisBroker(valkey.url, queue_prefix="blue:", deployment="blue", origin="east")
        await broker.publish([Message("crawler.frames", b"{}"), Message("connections.lost", b'{"n":1}')])
        await broker.close()

    asyncio.run(publish())

    assert valkey.client.keys() == ["blue:crawler"]
    texts = [read(text.encode())["headers"] for text in valkey.client.lrange("blue:crawler", 0, -1)]
    assert [(h["task"], h["deployment"]) for h in texts] == [
        ("connections.lost", "blue"),
        ("crawler.frames", "blue"),
    ]


def test_a_full_broker_counts_as_away(valkey: Valkey) -> None:
    """Some of the messages may have been taken; all are published again."""
    valkey.client.config_set("maxmemory", "1")

    async def publish() -> None:
        broker = RedisBroker(valkey.url)
        with pytest.raises(BrokerAwayError):
            await broker.publish([Message("crawler.frames", b"{}")])
        await broker.close()

    asyncio.run(publish())


def test_what_is_said_while_the_broker_is_away_is_published_when_it_is_back(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The links notice nothing."""
    monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 0.1)
    workers, acked = Workers(), []

    async def live() -> None:
        broker = RedisBroker(valkey.url)
        reports = Reports(broker, workers)
        running_ = asyncio.create_task(reports.run())
        connection = ConnectionId("C")

        def report(n: int) -> None:
            reports.add(connection, said("job_progress", str(n), {}), lambda: acked.append(n))

        report(0)
        await until(lambda: valkey.client.llen("crawler"))
        valkey.kill()
        for n in (1, 2):
            report(n)
            await until(lambda: not (reports.is_broker_there or reports._outbox))
        valkey.start()
        await until(lambda: reports.is_broker_there)
        assert not await reports.flush(0.05)
        workers.done.update(reports._in_flight.ids(10))
        assert await reports.flush(10)
        running_.cancel()
        await broker.close()

    asyncio.run(live())

    assert sorted(acked) == [0, 1, 2]
    frames = [json.loads(text) for text in valkey.client.lrange("crawler", 0, -1)]
    assert len({frame["headers"]["id"] for frame in frames}) == len(frames) == 2
