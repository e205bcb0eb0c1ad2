"""
A whole life of one job as the handler of a peer lives it, through asyncpg, the fastest driver there is.

The statements are all of `bare_sql.py` but those of `job_queue`, instead of which there is the peer's own
queue. Each phase is a transaction, and one statement where one can be made of its several. In the peers'
favour nothing else is done: no fence is held, no turn is taken, nobody's death is looked for; and nobody
is notified, which would keep their many commits from sharing a flush.
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
"""Jobs that wait throughout."""

_CONNECTIONS = 8
"""Of each worker to the database, for the lives."""

_LOOK_S = 0.05

_WAITING = "SELECT count(*) FROM job WHERE status = 'queued'"

_SUBMIT = sql.numbered(sql.as_one(sql.INSERT_JOBS, sql.EVENTS))
_ASSIGN = sql.numbered(sql.as_one(sql.ASSIGN, sql.EVENTS))
_START = sql.numbered(sql.as_one(sql.BEAT, sql.RUN, sql.START, sql.EVENTS))
_PROGRESS = sql.numbered(sql.as_one(sql.BEAT, sql.RUN, sql.PROGRESS, sql.EVENTS))
_COMPLETE = sql.numbered(sql.as_one(sql.BEAT, sql.CLOSE, sql.FINISH, sql.EVENTS, sql.EVENTS))
_SEATS = sql.numbered(sql.SEATS)
"""A statement of its own: it reads what the one before has changed."""

Order = tuple[str, str, str]
"""A job's id, its area's path, its account."""


class Fleet:
    """Where the jobs of one worker process live."""

    def __init__(self, pool: "asyncpg.Pool[Any]", slots: list[str]) -> None:
        self._pool = pool
        self._slots = cycle(sample(slots, len(slots)))  # not in step with the other process

    @classmethod
    async def connect(cls) -> "Fleet":
        """The active crawlers, and a pool whose connections are handed on as they are, without a round trip."""
        pool = await asyncpg.create_pool(
            DATABASE_URL, min_size=_CONNECTIONS, max_size=_CONNECTIONS, reset=_leave_as_it_is
        )
        return cls(
            pool, [row["id"] for row in await pool.fetch("SELECT id FROM socket_connection WHERE is_active")]
        )

    async def live(self, job: str, account: str) -> None:
        """Assign, start, progress, complete: each committed before the next."""
        fence, slot = str(ULID()), next(self._slots)
        assigned = _event("job_assigned", {"crawler_job_id": fence}, job, account, slot)
        await self._reassigned(slot, _ASSIGN, [fence], [job], [slot], [account], *assigned)
        progress, running = (
            sql.progress(fence, "started"),
            _event("job_updated", {"status": "running"}, job, account),
        )
        await self._pool.execute(_START, [slot], [fence], progress, [job], *running)
        progress, resume = sql.progress(fence, "started", "25%"), json.dumps({"currentPage": 1})
        updated = _event("progress_updated", {"completion": 0.2}, job, account, slot)
        await self._pool.execute(_PROGRESS, [slot], [fence], progress, resume, [job], *updated)
        progress = sql.progress(fence, "started", "25%", "completed")
        whole = _event("progress_updated", {"completion": 1.0}, job, account, slot)
        finished = _event("job_updated", {"status": "finished"}, job, account)
        await self._reassigned(slot, _COMPLETE, [slot], [fence], progress, [job], *whole, *finished)

    async def _reassigned(self, slot: str, statement: str, *values: Any) -> None:
        """One transaction that ends by noting on the connection which jobs it has."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(statement, *values)
            await connection.execute(_SEATS, [slot])


async def insert_jobs(connection: "asyncpg.Connection[Any]", batch: list[Order]) -> None:
    """Insert the rows of queued jobs, with their events."""
    ids, paths, owners = (list(column) for column in zip(*batch, strict=True))
    payload = json.dumps({"existing": False})
    await connection.execute(
        _SUBMIT, ids, paths, owners, "job_created", payload, ids, owners, [None] * len(ids)
    )


async def keep_waiting(submit: Callable[["asyncpg.Connection[Any]", list[Order]], Awaitable[None]]) -> None:
    """Keep so many jobs waiting, until ended; ready when they do."""
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
    """Nothing in a life alters its session."""


def _event(
    kind: str, payload: dict[str, Any], job: str, account: str, slot: str | None = None
) -> tuple[Any, ...]:
    return kind, json.dumps(payload), [job], [account], [slot]
