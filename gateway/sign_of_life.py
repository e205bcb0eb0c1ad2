"""
The sign of life of a gateway on the broker: what shows one that holds no link.

It is a key of Redis that expires, and no row. A gateway writes nothing to Postgres, and a row that a worker stored for
it would age with the queue behind which its message waits: after a backlog of minutes every gateway would seem dead.
A key needs no worker, no retention, and says nothing that must outlive a FLUSHALL. What Postgres knows of a gateway are
the connections that name it.

The set of names is kept for an hour longer than the keys, so that a gateway that was killed is missed.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from typing import Any, Protocol, Self

import structlog

from tasks.start.broker_client import ASYNC_ERRORS
from tasks.start.temporary_folder import why_no_temporary_folder
from tasks.worker.heartbeat_file import LivenessFile

log = structlog.get_logger()

KIND = "gateway"
"""Of its liveness file, for `crawlyard health --gateway`."""
PULSE_S = 1.0
STUCK_AFTER = timedelta(seconds=15)
"""A loop that has not turned for this long serves no link: the links' own pings give up then, too."""

NAMES = "gateways"
"""A sorted set: the names of gateways, by the time of their last sign."""
KEY = "gateway:"
"""Begins the key of a gateway's sign."""

INTERVAL_S = 5.0
CHANGE_S = 0.5
"""How soon a change of state is said."""
EXPIRES_S = 20
"""Three signs may be late."""
MISSED_FOR_S = 3600
"""For how long a gateway is missed that was killed."""


@dataclass(frozen=True)
class Sign:
    """What a gateway says of itself. It holds no text of a crawler's, and no secret."""

    name: str
    host: str
    pid: int
    version: str
    started_at: float
    """Seconds of the epoch, by the gateway's clock."""
    state: str
    """`serving`, `waiting` while Postgres or the broker is away, or `draining`."""
    links: int
    """Open sockets with a welcome."""
    listeners: Sequence[str]
    figures: Mapping[str, float]
    """Its counters, by name: those of its metrics."""

    def as_text(self) -> str:
        """The value of its key."""
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str | bytes) -> Self | None:
        """Read a value; None if it is none of ours, as of a later version that dropped a field."""
        try:
            said = json.loads(text)
            return cls(**{field.name: said[field.name] for field in fields(cls)})
        except (ValueError, TypeError, KeyError):
            return None


class _Pipeline(Protocol):
    def set(self, name: str, value: str, *, ex: int) -> Any: ...
    def delete(self, *names: str) -> Any: ...
    def zadd(self, name: str, mapping: Mapping[str, float]) -> Any: ...
    def zrem(self, name: str, *values: str) -> Any: ...
    def zremrangebyscore(self, name: str, low: float, high: float) -> Any: ...
    def execute(self) -> Awaitable[list[Any]]: ...


class Broker(Protocol):
    """The part of `redis.asyncio.Redis` that is used here."""

    def pipeline(self, *, transaction: bool) -> _Pipeline:
        """Return a pipeline."""


class SignsOfLife:
    """
    Gives a sign every few seconds, and when its state changes, until it is taken back.

    A broker that refuses or is away costs nothing but the sign.
    """

    def __init__(self, broker: Broker, prefix: str, sign: Callable[[], Sign]) -> None:
        self._broker = broker
        self._prefix = prefix
        self._sign = sign
        self._failed = False

    async def run(self) -> None:
        """Give signs until cancelled."""
        while True:
            given = await self.give()
            for _ in range(int(INTERVAL_S / CHANGE_S)):
                await asyncio.sleep(CHANGE_S)
                if self._sign().state != given.state:
                    break

    async def give(self) -> Sign:
        """Give one sign now, and return it."""
        sign, now = self._sign(), time.time()
        pipeline = self._broker.pipeline(transaction=False)
        pipeline.set(f"{self._prefix}{KEY}{sign.name}", sign.as_text(), ex=EXPIRES_S)
        pipeline.zadd(self._prefix + NAMES, {sign.name: now})
        pipeline.zremrangebyscore(self._prefix + NAMES, 0, now - MISSED_FOR_S)
        await self._try(pipeline)
        return sign

    async def take_back(self) -> None:
        """Be forgotten at once: a gateway that was stopped is not missed."""
        sign = self._sign()
        pipeline = self._broker.pipeline(transaction=False)
        pipeline.delete(f"{self._prefix}{KEY}{sign.name}")
        pipeline.zrem(self._prefix + NAMES, sign.name)
        await self._try(pipeline)

    async def _try(self, pipeline: _Pipeline) -> None:
        try:
            await pipeline.execute()
        except ASYNC_ERRORS as error:
            if not self._failed:
                log.warning("no_sign_of_life", error=str(error))
            self._failed = True
        else:
            self._failed = False


async def keep_liveness_file() -> None:
    """
    Update this process's liveness file as often as the loop turns, until cancelled.

    It says nothing of Postgres or the broker: while they are away a gateway keeps its links.
    """
    try:
        file = LivenessFile(KIND, STUCK_AFTER)
    except OSError as error:
        log.warning("no_pulse", error=why_no_temporary_folder() or str(error))
        return
    try:
        while True:
            with suppress(OSError, ValueError):  # the file was removed; the supervisor reports the process
                file.beat()
            await asyncio.sleep(PULSE_S)
    finally:
        file.close()
