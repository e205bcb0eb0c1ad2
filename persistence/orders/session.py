"""
The session by which a gateway reads the database: one for the whole process, in which one query runs at a time.

It listens to nothing and prepares nothing, so that it works through a pooler too. There, limits and search_path are
set in each query's transaction, in the same round trip.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection, IsolationLevel
from psycopg.rows import TupleRow

from persistence.db import async_session
from persistence.db.session import enter_schema, set_limits
from persistence.db.sqlstate import is_connection_unusable, translate_errors
from persistence.exceptions import DatabaseLost
from persistence.settings import settings

Parameters = Mapping[str, Any] | Sequence[Any]

_READ_COMMITTED = "SELECT set_config('default_transaction_isolation', 'read committed', false)"
"""For what runs without BEGIN."""

ANSWER_S = 10.0
"""A query without an answer for this long counts as a lost database, whatever the network says."""


class OrderSession:
    """Opened by the first query, and by the next one after it was lost. Used in one event loop."""

    def __init__(self, url: str | None = None, answer_s: float = ANSWER_S) -> None:
        self._url = url or settings().session_url
        self._answer_s = answer_s
        self._connection: AsyncConnection[TupleRow] | None = None
        self._is_pooled = False
        self._lock = asyncio.Lock()
        self.opened = 0
        """How often it has been opened: what was read before belongs to another session, perhaps another server."""

    async def rows(self, query: str, parameters: Parameters = ()) -> list[TupleRow]:
        """
        Run one query and return its rows.

        Raises DatabaseLost if the database is away or does not answer, Contended if it cancels the query, and
        DatabaseFaultError. Nothing is repeated.
        """
        async with self._lock:
            try:
                with translate_errors():
                    return await self._answer(query, parameters)
            except TimeoutError:
                await self._drop()
                raise DatabaseLost(f"the database did not answer within {self._answer_s:g} s") from None
            except Exception as error:
                if is_connection_unusable(error) or (self._connection and self._connection.broken):
                    await self._drop()
                raise
            except BaseException:
                await self._drop()  # cancelled, perhaps in the middle of an answer
                raise

    async def close(self) -> None:
        """Close the session; a query opens it again."""
        async with self._lock:
            await self._drop()

    async def _answer(self, query: str, parameters: Parameters) -> list[TupleRow]:
        async with asyncio.timeout(self._answer_s):
            connection = self._connection or await self._open()
            statement = query.encode()  # typed as what needs not be a literal: it comes from `fragment`
            if not self._is_pooled:
                return await (await connection.execute(statement, parameters)).fetchall()
            async with connection.pipeline(), connection.transaction():
                await self._prepare(connection, local=True)
                cursor = await connection.execute(statement, parameters)
                return await cursor.fetchall()

    async def _open(self) -> AsyncConnection[TupleRow]:
        connection = await async_session.connect(self._url, application_name="crawlyard gateway")
        self._connection = connection
        await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
        self._is_pooled = await async_session.is_pooled(connection)
        if not self._is_pooled:
            await connection.execute(_READ_COMMITTED)
            await self._prepare(connection, local=False)
        self.opened += 1
        return connection

    async def _prepare(self, connection: AsyncConnection[TupleRow], *, local: bool) -> None:
        await connection.execute(*set_limits(local=local))
        if entering := enter_schema(local=local):
            await connection.execute(*entering)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            with suppress(psycopg.Error, OSError):
                await connection.close()
