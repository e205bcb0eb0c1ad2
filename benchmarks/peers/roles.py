"""What the programs of all peers share: their settings, and the protocol with the process that started them."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

DATABASE_URL = os.environ.get("DATABASE_URL", "")
BROKER_URL = os.environ.get("BROKER_URL", "")

BATCH = 500
"""Jobs per enqueue: as many as Crawlyard's messages contain orders."""


def ready() -> None:
    """Report that the process is ready."""
    print("ready", flush=True)  # noqa: T201 - this is the protocol


async def submit_on_request(submit: Callable[[int], Awaitable[None]]) -> None:
    """For each number on standard input, submit that many jobs in batches; end with the input."""
    ready()
    while line := await asyncio.to_thread(sys.stdin.readline):
        count = int(line)
        for done in range(0, count, BATCH):
            await submit(min(BATCH, count - done))
        ready()
