"""Listens on the broker for wake-ups: something was committed that a gateway may act upon."""

import asyncio
from collections.abc import Callable

import redis.asyncio
import structlog

from persistence.settings import settings
from tasks.start.broker_client import client_url
from tasks.wake_up import channel

log = structlog.get_logger()

_PAUSE_S = 1.0
_TIMEOUT_S = 5.0
_CHECK_S = 15.0
"""A connection on which nothing has come for this long is asked whether it is alive."""


async def listen(wake: Callable[[], None]) -> None:
    """Call *wake* at each wake-up, for ever. While the broker is away there are none."""
    is_away = False
    while True:
        try:
            async with _client() as client, client.pubsub(ignore_subscribe_messages=True) as subscription:
                await subscription.subscribe(channel(client))
                is_away = False
                wake()  # for those that came before
                while True:
                    if await subscription.get_message(timeout=_CHECK_S):
                        wake()
        except Exception as error:  # noqa: BLE001 - whatever the client raises: the feed looks without wake-ups too
            if not is_away:
                log.warning("wake_ups_lost", error=type(error).__name__)
            is_away = True
        await asyncio.sleep(_PAUSE_S)


def _client() -> "redis.asyncio.Redis":
    return redis.asyncio.Redis.from_url(
        client_url(settings().broker_url),
        socket_connect_timeout=_TIMEOUT_S,
        socket_timeout=_TIMEOUT_S,
        health_check_interval=_CHECK_S,
    )
