"""
awa: asynchronous handlers under its Rust runtime, in two processes; enqueued by COPY.

`enqueue_many_copy` is what it documents for many jobs, and `max_workers` the knob that always matters;
other settings it advises to leave. Short jobs want more workers than lives, which wait for the database.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from awa import AsyncClient

from benchmarks.peers.lives import Fleet, Order, insert_jobs, keep_waiting
from benchmarks.peers.roles import DATABASE_URL, ready, submit_on_request

if TYPE_CHECKING:
    import asyncpg

_NOOPS, _LIVES = 500, 100
"""Jobs at a time in each process."""

_QUEUE = "default"


@dataclass
class Noop:
    """A job that does nothing."""


@dataclass
class Life:
    """A job that lives a life."""

    job: str
    account: str


async def install() -> None:
    """Make its tables."""
    async with AsyncClient(DATABASE_URL) as client:
        await client.migrate()


async def work() -> None:
    """Do nothing, until ended."""

    async def handle(_job: Any) -> None:
        """Do nothing."""

    await _consume(Noop, handle, _NOOPS)


async def submit() -> None:
    """Enqueue as many as told."""
    client = AsyncClient(DATABASE_URL)
    await submit_on_request(lambda count: client.enqueue_many_copy([Noop()] * count, queue=_QUEUE))


async def live() -> None:
    """Live lives, until ended."""
    fleet = await Fleet.connect()

    async def handle(job: Any) -> None:
        await fleet.live(job.args.job, job.args.account)

    await _consume(Life, handle, _LIVES)


async def keep() -> None:
    """Keep jobs waiting: their rows first, since COPY has a transaction of its own."""
    client = AsyncClient(DATABASE_URL)

    async def submit(connection: "asyncpg.Connection[Any]", batch: list[Order]) -> None:
        await insert_jobs(connection, batch)
        await client.enqueue_many_copy([Life(job, account) for job, _, account in batch], queue=_QUEUE)

    await keep_waiting(submit)


async def _consume(kind: type, handle: Any, at_a_time: int) -> None:
    client = AsyncClient(DATABASE_URL, max_connections=24)  # the advice is 4 a queue, and 20
    client.task(kind, queue=_QUEUE)(handle)
    await client.start([(_QUEUE, at_a_time)])
    ready()
    await asyncio.Event().wait()
