"""Questions that many links ask at the same time, answered by few queries."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from gateway.orders.pace import Pace

Key = TypeVar("Key")
Answer = TypeVar("Answer")

MOST_AT_ONCE = 500


class Together(Generic[Key, Answer]):
    """
    Answers by one query what is asked while the one before runs, or waits for its turn.

    An error of the query is raised to all who asked. Who asks the same shares the answer.
    """

    def __init__(
        self,
        query: Callable[[list[Key]], Awaitable[dict[Key, Answer]]],
        pace: Pace,
        most: int = MOST_AT_ONCE,
    ) -> None:
        self._query = query
        self._pace = pace
        self._most = most
        self._asked: dict[Key, asyncio.Future[Answer | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def ask(self, key: Key) -> Answer | None:
        """Return the answer; None if there is none."""
        future = self._asked.get(key)
        if future is None:
            future = self._asked[key] = asyncio.get_running_loop().create_future()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._answer())
        # Shielded: who gives up must not take the answer away from others.
        return await asyncio.shield(future)

    async def _answer(self) -> None:
        while self._asked:
            await self._pace.wait()
            keys = list(self._asked)[: self._most]
            futures = [self._asked.pop(key) for key in keys]
            try:
                answers = await self._query(keys)
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked
                for future in futures:
                    future.set_exception(error)
                    future.exception()  # all who asked may have given up
                continue
            for key, future in zip(keys, futures, strict=True):
                future.set_result(answers.get(key))
