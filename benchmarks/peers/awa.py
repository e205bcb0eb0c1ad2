"""
awa: asynchronous handlers under its Rust runtime, in two processes; enqueued by COPY.

Its documentation recommends `enqueue_many_copy` for many jobs, calls `max_workers` the setting that always matters,
and advises to leave the others alone. No-op jobs need more workers than lives, which wait for the database.
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
"""Concurrent jobs in each process."""

_QUEUE = "default"


@dataclass
class Noop:
    """A job that does nothing."""


@dataclass
class Life:
    """A job that goes through a whole life."""

    job: str
    account: str


async def install() -> None:
    """Create its tables."""
    async with AsyncClient(DATABASE_URL) as client:
        await client.migrate()


async def work() -> None:
    """Run no-op jobs until stopped."""

    async def handle(_job: Any) -> None:
        """Do nothing."""

    await _consume(Noop, handle, _NOOPS)


async def submit() -> None:
    """Enqueue no-op jobs on request."""
    client = AsyncClient(DATABASE_URL)
    await submit_on_request(lambda count: client.enqueue_many_copy([Noop()] * count, queue=_QUEUE))


async def live() -> None:
    """Run whole lives until stopped."""
    fleet = await Fleet.connect()

    async def handle(job: Any) -> None:
        await fleet.live(job.args.job, job.args.account)

    await _consume(Life, handle, _LIVES)


async def keep() -> None:
    """Keep jobs waiting; their rows are inserted first, since COPY uses its own transaction."""
    client = AsyncClient(DATABASE_URL)

    async def submit(connection: "asyncpg.Connection[Any]", batch: list[Order]) -> None:
        await insert_jobs(connection, batch)
        await client.enqueue_many_copy([Life(job, account) for job, _, account in batch], queue=_QUEUE)

    await keep_waiting(submit)


async def _consume(kind: type, handle: Any, at_a_time: int) -> None:
    client = AsyncClient(DATABASE_URL, max_connections=24)  # the advice is 20, plus 4 per queue
    client.task(kind, queue=_QUEUE)(handle)
    await client.start([(_QUEUE, at_a_time)])
    ready()
    await asyncio.Event().wait()
