"""Whatever a client of Redis raises while the broker is away, a gateway goes on."""

import asyncio
import time
from typing import Any

import pytest
import redis

from gateway.reports.broker import BrokerAwayError, RedisBroker
from gateway.reports.message import Message
from gateway.sign_of_life import Sign, SignsOfLife

RAISED = (
    redis.ConnectionError("reset"),
    ConnectionResetError(),
    RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed"),
)


class AwayPipeline:
    """Takes every command, and cannot send them."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, _command: str) -> Any:
        return lambda *_, **__: self

    async def execute(self) -> None:
        """Fail."""
        raise self._error


class AwayClient:
    """A client whose broker is away."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def pipeline(self, *, transaction: bool) -> AwayPipeline:
        """Return a pipeline that cannot be sent."""
        assert not transaction
        return AwayPipeline(self._error)


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_a_broker_that_is_away_is_known_by_any_error(error: Exception) -> None:
    """That of uvloop for a closed socket ended the process."""
    broker = RedisBroker("redis://127.0.0.1:9")
    broker._client = AwayClient(error)  # type: ignore[assignment]
    sign = Sign("name", "host", 1, "1", time.time(), "serving", 0, [], {})

    async def publish() -> None:
        await SignsOfLife(AwayClient(error), "", lambda: sign).give()
        with pytest.raises(BrokerAwayError):
            await broker.publish([Message("crawler.frames", b"{}")])

    asyncio.run(publish())
