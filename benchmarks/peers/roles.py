"""What a peer's program can be asked to be, and how it talks to who started it: a line a word."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

DATABASE_URL = os.environ.get("DATABASE_URL", "")
BROKER_URL = os.environ.get("BROKER_URL", "")

BATCH = 500
"""Jobs an enqueue, as our messages hold orders."""


def ready() -> None:
    """Say that the work may begin."""
    print("ready", flush=True)  # noqa: T201 - this is the protocol


async def submit_on_request(submit: Callable[[int], Awaitable[None]]) -> None:
    """Submit so many jobs for each number that comes in, in batches; until the input ends."""
    ready()
    while line := await asyncio.to_thread(sys.stdin.readline):
        count = int(line)
        for done in range(0, count, BATCH):
            await submit(min(BATCH, count - done))
        ready()
