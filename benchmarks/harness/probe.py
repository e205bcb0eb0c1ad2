"""Inserts or requests one job at a time, and times how long it takes until its order can be read."""

import time
from dataclasses import dataclass, field
from typing import Any

import psycopg
from ulid import ULID

from benchmarks.harness.bed import Bed, wait_until
from benchmarks.harness.world import HOST, completed, requested
from persistence.events.outbox import CHANNEL

ACCOUNT = "probe"

_POLL_S = 0.05
"""It reads the orders after this time, even without a notification."""

INSERT = f"""
    INSERT INTO job (id, command, full_path, "accountId", provider, "gitlabGraphQLUrl")
    VALUES (%s, 'issues', %s, '{ACCOUNT}', 'gitlab-cloud', 'https://{HOST}/api/graphql')
"""

_OF_ACCOUNT, _OF_CONNECTION = (
    f"SELECT crawler_job_id FROM crawler_order WHERE {column} = %s AND crawler_job_id > %s"
    for column in ("account_id", "connection_id")
)


@dataclass
class Probe:
    """An account without other jobs, and a connection that requests one job at a time."""

    bed: Bed
    session: psycopg.Connection[Any]
    """In autocommit."""
    listener: psycopg.Connection[Any]
    """Receives the notifications of events: polling without a pause would take a core from what is timed."""
    connection_id: str
    _newest: str = field(default="0" * 26, init=False)
    """The last order that was read."""

    def __post_init__(self) -> None:
        self.listener.execute(f"LISTEN {CHANNEL}")

    def since_commit(self) -> float:
        """Insert a job; return the seconds from its COMMIT, after which jobs.enqueue is published, to its order."""
        job_id = self._insert()
        begun = time.perf_counter()
        self.bed.publisher.publish("jobs.enqueue", job_ids=[job_id])
        return self._seen(_OF_ACCOUNT, ACCOUNT) - begun

    def since_request(self) -> float:
        """Request a job while some wait; return the seconds from the frame to the order."""
        begun = time.perf_counter()
        self._send(requested(self.connection_id, 1))
        seconds = self._seen(_OF_CONNECTION, self.connection_id) - begun
        self._send(requested(self.connection_id, 0), completed(self.connection_id, self._newest))
        # Before the next request, since two queued messages are handled concurrently.
        wait_until(lambda: not self._read(_OF_CONNECTION, self.connection_id, ""), "the order is gone")
        return seconds

    def queue(self, count: int) -> None:
        """Queue jobs, and request none."""
        self._send(requested(self.connection_id, 0))
        self.bed.publisher.publish("jobs.enqueue", job_ids=[self._insert() for _ in range(count)])

    def complete(self) -> None:
        """Complete the last order."""
        self._send(completed(self.connection_id, self._newest))

    def _insert(self) -> str:
        job_id = str(ULID())
        self.session.execute(INSERT, [job_id, f"probe/{job_id}"])
        return job_id

    def _send(self, *frames: dict[str, Any]) -> None:
        self.bed.publisher.publish("crawler.frames", frames=frames)

    def _seen(self, orders: str, whose: str) -> float:
        """Return the time at which a new order can be read."""
        found = wait_until(lambda: self._new(orders, whose), "an order can be read", pause=0)
        at = time.perf_counter()
        ((self._newest,),) = found
        return at

    def _new(self, orders: str, whose: str) -> list[Any]:
        """Read the new order, after a notification or a short while."""
        for _ in self.listener.notifies(timeout=_POLL_S, stop_after=1):
            pass
        return self._read(orders, whose, self._newest)

    def _read(self, orders: str, whose: str, after: str) -> list[Any]:
        return self.session.execute(orders, [whose, after], prepare=True).fetchall()
