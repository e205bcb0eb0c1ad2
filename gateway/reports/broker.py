"""Publishes messages to Redis in Celery's format, several at once."""

import base64
import json
from collections.abc import Sequence
from typing import Protocol
from uuid import uuid4

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.metrics import metrics
from gateway.reports.message import Message
from tasks.routes import queue_of
from tasks.start.broker_client import ASYNC_ERRORS, client_url

_TIMEOUT_S = 5.0


class BrokerAwayError(Exception):
    """The broker did not take all of the messages. Some may have been published."""


class Broker(Protocol):
    """Where messages are published."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish messages in their order. Raises BrokerAwayError."""

    async def is_queue_empty(self) -> bool:
        """True if no message of crawlers waits for a worker. Raises BrokerAwayError."""


class RedisBroker:
    """The workers' queues in Redis."""

    def __init__(self, url: str, *, queue_prefix: str = "", deployment: str = "", origin: str = "") -> None:
        """Take the broker's URL as kombu writes it, and the workers' queue prefix and deployment."""
        self._client = redis.asyncio.Redis.from_url(
            client_url(url),
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), retries=0),
        )
        self._prefix = queue_prefix
        self._headers = {"lang": "py", "origin": origin, "retries": 0} | (
            {"deployment": deployment} if deployment else {}
        )

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish messages in their order. Raises BrokerAwayError."""
        pushes = self._client.pipeline(transaction=False)
        for message in messages:
            queue = queue_of(message.task)
            pushes.lpush(self._prefix + queue, envelope(message, queue, self._headers))
        try:
            await pushes.execute()
        except ASYNC_ERRORS as error:
            metrics.count("publish_failures")
            raise BrokerAwayError(type(error).__name__) from error
        metrics.count("messages_published", len(messages))
        metrics.count("messages_repeated", sum(message.published > 0 for message in messages))

    async def is_queue_empty(self) -> bool:
        """True if no message of crawlers waits for a worker. Raises BrokerAwayError."""
        try:
            return not await self._client.llen(self._prefix + queue_of("crawler.frames"))
        except ASYNC_ERRORS as error:
            raise BrokerAwayError(type(error).__name__) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def envelope(message: Message, queue: str, headers: dict[str, object]) -> bytes:
    """Return the text that the queue's list holds."""
    body = base64.b64encode(b"[[],%b,{}]" % message.arguments)
    headers = headers | {"task": message.task, "id": message.id, "root_id": message.id}
    properties = {
        "body_encoding": "base64",
        "correlation_id": message.id,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "delivery_mode": 2,
        "delivery_tag": str(uuid4()),
        "priority": 0,
    }
    return b'{"body":"%b","content-encoding":"utf-8","content-type":"application/json",%b' % (
        body,
        json.dumps({"headers": headers, "properties": properties}).encode()[1:],
    )
