"""The memory of a worker does not grow with the frames it applies: the resident size of parent and child."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.depth import deep
from support.poolers import through
from support.processes.workers import Worker, running, wait_until
from support.worlds.world import Crawler, Published, World
from tasks.client import Producer

BATCH = 500
WARM_UP = 20
"""After this many messages, caches are full and pages are touched."""
MESSAGES = 300 if deep() else 40
GROWTH_MIB = 8
"""A leak of a thousand bytes per frame would be 20 MiB in 20,000 frames, and 150 MiB in 150,000."""

pytestmark = [pytest.mark.programs, pytest.mark.timeout(1500)]


def resident(worker: Worker) -> dict[int, float]:
    """The resident memory of parent and children, in MiB by process id."""
    pids = [worker.pid, *worker.children()]
    table = ["ps", "-o", "pid=,rss=", "-p", ",".join(map(str, pids))]
    rows = subprocess.run(table, capture_output=True, check=True, text=True).stdout.splitlines()
    return {int(pid): int(size) / 1024 for pid, size in (row.split() for row in rows)}


@pytest.fixture
def worker(database: str, broker: str, tmp_path: Path) -> Iterator[Worker]:
    """A worker with one child, and no other worker at the queues."""
    worker = Worker(
        "tasks", broker, tmp_path / "log", DATABASE_URL=through(database), CRAWLYARD_CONNECTION_TIMEOUT="900"
    )
    with running(worker):
        yield worker


def test_memory_does_not_grow(worker: Worker, broker: str, published: Published) -> None:
    """After a warm-up, the same two processes apply tens of thousands of frames without growing."""
    world = World(published)
    world.account("acc")
    crawlers = [world.crawler_with_jobs(5) for _ in range(20)]
    producer = Producer(broker)
    sent = 0

    def send(messages: int) -> None:
        nonlocal sent
        for _ in range(messages):
            sent += 1
            producer.publish("crawler.frames", {"frames": _batch(crawlers, sent)})
        wait_until(
            lambda: world.scalar("SELECT count(*) FROM handled_message") >= sent,
            "all are applied",
            patience=1200 if deep() else 300,
        )

    send(WARM_UP)
    before = resident(worker)
    send(MESSAGES)
    after = resident(worker)
    producer.close()

    growth = {pid: size - before.get(pid, 0) for pid, size in after.items()}
    assert len(after) == 2
    assert after.keys() == before.keys()
    assert max(growth.values()) < GROWTH_MIB, growth


def _batch(crawlers: list[tuple[Crawler, list[str]]], turn: int) -> list[dict[str, object]]:
    """Heartbeats and progress of a busy fleet."""
    frames = [
        crawler.frame(
            "job_progress", order, stage="fetching", entityType="issues", processed=turn, total=10**6
        )
        for crawler, orders in crawlers
        for order in orders
    ]
    beats = [crawler.frame("heartbeat", activeJobs=5, systemStatus="processing") for crawler, _ in crawlers]
    return [*frames, *beats * BATCH][:BATCH]
