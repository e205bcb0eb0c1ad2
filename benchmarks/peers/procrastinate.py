"""
Procrastinate: asynchronous tasks, thirty at a time in each of two processes; deferred in batches.

So its guide to concurrency has it. Short jobs want as many connections as there are jobs at a time, it
says, and one more. Finished jobs are kept, as by default and by us.
"""

from procrastinate import App, PsycopgConnector

from benchmarks.peers.roles import DATABASE_URL, ready, submit_on_request

_CONCURRENCY = 30

app = App(connector=PsycopgConnector(conninfo=DATABASE_URL, max_size=_CONCURRENCY + 1))


@app.task
async def noop() -> None:
    """Do nothing."""


async def install() -> None:
    """Make its tables."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def work() -> None:
    """Do nothing, until ended."""
    async with app.open_async():
        ready()
        await app.run_worker_async(concurrency=_CONCURRENCY)


async def submit() -> None:
    """Defer as many as told."""
    async with app.open_async():
        await submit_on_request(lambda count: noop.batch_defer_async(*[{}] * count))
