"""
PgQueuer: asyncpg, and two consumers with a connection each in each of two processes; enqueued in batches.

Its own benchmark runs several consumers in a process, and finds asyncpg 1.7 times as fast as psycopg. The
guide to tuning wants large fetches for short jobs, and its settings of autovacuum. Its `durability` stays.
"""

import asyncio
import json
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from benchmarks.peers.lives import Fleet, Order, insert_jobs, keep_waiting
from benchmarks.peers.roles import DATABASE_URL, ready, submit_on_request

_CONSUMERS = 2
_FETCHED = 250
"""Jobs a fetch, each a task of its own."""
_AT_A_TIME = 4 * _FETCHED
"""Lives a consumer; without a bound it fetches all that wait."""


async def install() -> None:
    """Make its tables, with the settings for autovacuum that its checklist wants."""
    queries = Queries(await _driver())
    await queries.install()
    await queries.optimize_autovacuum()


async def work() -> None:
    """Do nothing, until ended."""

    async def handle(_job: Job) -> None:
        """Do nothing."""

    await _consume("noop", handle)


async def submit() -> None:
    """Enqueue as many as told."""
    queries = Queries(await _driver())
    await submit_on_request(lambda count: queries.enqueue(["noop"] * count, [None] * count, [0] * count))


async def live() -> None:
    """Live lives, until ended."""
    fleet = await Fleet.connect()

    async def handle(job: Job) -> None:
        await fleet.live(*json.loads(job.payload or b""))

    await _consume("life", handle, max_concurrent_tasks=_AT_A_TIME)


async def keep() -> None:
    """Keep jobs waiting: their rows, and their places in the queue, in one transaction."""
    await keep_waiting(_submit)


async def _driver() -> AsyncpgDriver:
    return AsyncpgDriver(await asyncpg.connect(DATABASE_URL))


async def _consume(entrypoint: str, handle: Any, **limits: int) -> None:
    consumers = [PgQueuer(await _driver()) for _ in range(_CONSUMERS)]
    for consumer in consumers:
        consumer.entrypoint(entrypoint)(handle)
    ready()
    await asyncio.gather(*(consumer.run(batch_size=_FETCHED, **limits) for consumer in consumers))


async def _submit(connection: "asyncpg.Connection[Any]", batch: list[Order]) -> None:
    lives = [json.dumps([job, account]).encode() for job, _, account in batch]
    async with connection.transaction():
        await insert_jobs(connection, batch)
        await Queries(AsyncpgDriver(connection)).enqueue(["life"] * len(lives), lives, [0] * len(lives))
