"""
Procrastinate: asynchronous tasks, thirty at a time in each of two processes; deferred in batches.

This follows its guide to concurrency: short jobs need one connection per concurrent job, and one more. Finished jobs
are kept, which is its default and what Crawlyard does.
"""

from procrastinate import App, PsycopgConnector

from benchmarks.peers.roles import DATABASE_URL, ready, submit_on_request

_CONCURRENCY = 30

app = App(connector=PsycopgConnector(conninfo=DATABASE_URL, max_size=_CONCURRENCY + 1))


@app.task
async def noop() -> None:
    """Do nothing."""


async def install() -> None:
    """Create its tables."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def work() -> None:
    """Run no-op jobs until stopped."""
    async with app.open_async():
        ready()
        await app.run_worker_async(concurrency=_CONCURRENCY)


async def submit() -> None:
    """Defer no-op jobs on request."""
    async with app.open_async():
        await submit_on_request(lambda count: noop.batch_defer_async(*[{}] * count))
