"""
Wakes gateways up: one message on a channel of Redis, after units that changed what a gateway acts upon.

A gateway that misses it looks a moment later all the same, so nothing is repeated and no failure is reported.
"""

from time import monotonic

import redis.asyncio

from persistence.settings import settings
from tasks.routes import WAKE_UP_CHANNEL
from tasks.start.broker_client import open_client

_TIMEOUT_S = 0.5
_PAUSE_S = 5.0
"""After a failure none is sent for this long: a broker that does not answer must not hold up each unit."""


class WakeUp:
    """Sends wake-ups; the client is opened by the first one, in whichever process that is."""

    def __init__(self) -> None:
        self._client: redis.Redis | None = None
        self._url = ""
        self._paused_until = 0.0

    def send(self) -> None:
        """Wake the gateways up, or do nothing if the broker does not answer."""
        if monotonic() < self._paused_until:
            return
        try:
            client = self._open()
            client.publish(channel(client), b"")
        except (redis.RedisError, OSError):
            self._paused_until = monotonic() + _PAUSE_S

    def _open(self) -> redis.Redis:
        url = settings().broker_url
        if self._client is None or url != self._url:
            self._client, self._url = open_client(url, timeout_s=_TIMEOUT_S), url
        return self._client


def channel(client: redis.Redis | redis.asyncio.Redis) -> str:
    """The channel of wake-ups, named as kombu names its own: databases of one server share their channels."""
    database = client.connection_pool.connection_kwargs.get("db") or 0
    return f"{settings().queue_prefix}/{database}.{WAKE_UP_CHANNEL}"
