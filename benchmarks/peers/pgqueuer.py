"""
PgQueuer: asyncpg, and in each of two processes two consumers with a connection each; enqueued in batches.

Its own benchmark runs several consumers per process, and finds asyncpg 1.7 times as fast as psycopg. Its tuning guide
recommends large fetches for short jobs, and certain autovacuum settings. Its `durability` has the default value.
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
"""Jobs per fetch; each runs in an asyncio task of its own."""
_AT_A_TIME = 4 * _FETCHED
"""Concurrent lives per consumer; without a limit it would fetch all waiting jobs."""


async def install() -> None:
    """Create its tables, with the autovacuum settings that its checklist recommends."""
    queries = Queries(await _driver())
    await queries.install()
    await queries.optimize_autovacuum()


async def work() -> None:
    """Run no-op jobs until stopped."""

    async def handle(_job: Job) -> None:
        """Do nothing."""

    await _consume("noop", handle)


async def submit() -> None:
    """Enqueue no-op jobs on request."""
    queries = Queries(await _driver())
    await submit_on_request(lambda count: queries.enqueue(["noop"] * count, [None] * count, [0] * count))


async def live() -> None:
    """Run whole lives until stopped."""
    fleet = await Fleet.connect()

    async def handle(job: Job) -> None:
        await fleet.live(*json.loads(job.payload or b""))

    await _consume("life", handle, max_concurrent_tasks=_AT_A_TIME)


async def keep() -> None:
    """Keep jobs waiting; their rows and queue entries are inserted in one transaction."""
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
