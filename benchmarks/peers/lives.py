"""
A whole life of one job in the handler of a peer, through asyncpg, the fastest driver.

The statements are those of `bare_sql.py` except for `job_queue`, which the peer's own queue replaces. Each phase is a
transaction, and a single statement if its statements can be combined. In the peers' favour, nothing else is done: no
fences, no fairness, no detection of dead crawlers, and no notifications, which would keep their many commits from
sharing a flush.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import cycle, islice
from random import sample
from typing import Any

import asyncpg
from ulid import ULID

from benchmarks.harness.world import orders
from benchmarks.peers.roles import BATCH, DATABASE_URL, ready
from benchmarks.throughput import statements as sql

_DEPTH = 10_000
"""Jobs that wait all the time."""

_CONNECTIONS = 8
"""Database connections of each worker, for the lives."""

_LOOK_S = 0.05

_WAITING = "SELECT count(*) FROM job WHERE status = 'queued'"

_SUBMIT = sql.numbered(sql.as_one(sql.INSERT_JOBS, sql.EVENTS))
_ASSIGN = sql.numbered(sql.as_one(sql.ASSIGN, sql.EVENTS))
_START = sql.numbered(sql.as_one(sql.BEAT, sql.RUN, sql.START, sql.EVENTS))
_PROGRESS = sql.numbered(sql.as_one(sql.BEAT, sql.RUN, sql.PROGRESS, sql.EVENTS))
_COMPLETE = sql.numbered(sql.as_one(sql.BEAT, sql.CLOSE, sql.FINISH, sql.EVENTS, sql.EVENTS))
_UPDATE_CONNECTIONS = sql.numbered(sql.UPDATE_CONNECTIONS)
"""A statement of its own, since it reads what the one before has changed."""

Order = tuple[str, str, str]
"""A job's id, the path of its area, and its account."""


class Fleet:
    """The crawler connections to which one worker process assigns its jobs."""

    def __init__(self, pool: "asyncpg.Pool[Any]", crawlers: list[str]) -> None:
        self._pool = pool
        self._crawlers = cycle(sample(crawlers, len(crawlers)))  # in another order than the other process

    @classmethod
    async def connect(cls) -> "Fleet":
        """Read the active crawlers, and open a pool that does not reset connections, which saves a round trip."""
        pool = await asyncpg.create_pool(
            DATABASE_URL, min_size=_CONNECTIONS, max_size=_CONNECTIONS, reset=_leave_as_it_is
        )
        return cls(
            pool, [row["id"] for row in await pool.fetch("SELECT id FROM socket_connection WHERE is_active")]
        )

    async def live(self, job: str, account: str) -> None:
        """Assign, start, progress and complete a job, and commit each."""
        fence, crawler = str(ULID()), next(self._crawlers)
        assigned = _event("job_assigned", {"crawler_job_id": fence}, job, account, crawler)
        await self._change_attempts(crawler, _ASSIGN, [fence], [job], [crawler], [account], *assigned)
        progress, running = (
            sql.progress(fence, "started"),
            _event("job_updated", {"status": "running"}, job, account),
        )
        await self._pool.execute(_START, [crawler], [fence], progress, [job], *running)
        progress, resume = sql.progress(fence, "started", "25%"), json.dumps({"currentPage": 1})
        updated = _event("progress_updated", {"completion": 0.2}, job, account, crawler)
        await self._pool.execute(_PROGRESS, [crawler], [fence], progress, resume, [job], *updated)
        progress = sql.progress(fence, "started", "25%", "completed")
        whole = _event("progress_updated", {"completion": 1.0}, job, account, crawler)
        finished = _event("job_updated", {"status": "finished"}, job, account)
        await self._change_attempts(
            crawler, _COMPLETE, [crawler], [fence], progress, [job], *whole, *finished
        )

    async def _change_attempts(self, crawler: str, statement: str, *values: Any) -> None:
        """Run a statement and update the connection's list of jobs, in one transaction."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(statement, *values)
            await connection.execute(_UPDATE_CONNECTIONS, [crawler])


async def insert_jobs(connection: "asyncpg.Connection[Any]", batch: list[Order]) -> None:
    """Insert the rows of queued jobs, with their events."""
    ids, paths, owners = (list(column) for column in zip(*batch, strict=True))
    payload = json.dumps({"existing": False})
    await connection.execute(
        _SUBMIT, ids, paths, owners, "job_created", payload, ids, owners, [None] * len(ids)
    )


async def keep_waiting(submit: Callable[["asyncpg.Connection[Any]", list[Order]], Awaitable[None]]) -> None:
    """Keep jobs waiting until stopped; report ready when the first ones wait."""
    connection = await asyncpg.connect(DATABASE_URL)
    accounts = [row["id"] for row in await connection.fetch("SELECT id FROM account ORDER BY id")]
    rest = ((o["web_app_job_id"], o["namespace_path"], o["account_id"]) for o in orders(accounts))
    for _ in range(0, _DEPTH, BATCH):
        await submit(connection, list(islice(rest, BATCH)))
    ready()
    while True:
        if await connection.fetchval(_WAITING) <= _DEPTH - BATCH:
            await submit(connection, list(islice(rest, BATCH)))
        else:
            await asyncio.sleep(_LOOK_S)


async def _leave_as_it_is(_connection: "asyncpg.Connection[Any]") -> None:
    """Do nothing: no statement of a life changes the session's state."""


def _event(
    kind: str, payload: dict[str, Any], job: str, account: str, crawler: str | None = None
) -> tuple[Any, ...]:
    return kind, json.dumps(payload), [job], [account], [crawler]
