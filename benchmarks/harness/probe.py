"""One job, or one wish for a job, at a time; and how long it takes until its order can be read."""

import time
from dataclasses import dataclass, field
from typing import Any

import psycopg
from ulid import ULID

from benchmarks.harness.bed import Bed, wait_until
from benchmarks.harness.world import HOST, completed, requested
from persistence.events.outbox import CHANNEL

ACCOUNT = "probe"

_UNTOLD_S = 0.05
"""After so long it looks, though nobody has told it to."""

_INSERT = f"""
    INSERT INTO job (id, command, full_path, "accountId", provider, "gitlabGraphQLUrl")
    VALUES (%s, 'issues', %s, '{ACCOUNT}', 'gitlab-cloud', 'https://{HOST}/api/graphql')
"""

_OF_ACCOUNT, _OF_CONNECTION = (
    f"SELECT crawler_job_id FROM crawler_order WHERE {column} = %s AND crawler_job_id > %s"
    for column in ("account_id", "connection_id")
)


@dataclass
class Probe:
    """An account without jobs, and a connection that asks for one job at a time; nobody else need be there."""

    bed: Bed
    session: psycopg.Connection[Any]
    """Its own, in autocommit."""
    listener: psycopg.Connection[Any]
    """One more, on which it hears of events: to look all the time would take a core from those who are timed."""
    connection_id: str
    _newest: str = field(default="0" * 26, init=False)
    """The last order that was seen."""

    def __post_init__(self) -> None:
        self.listener.execute(f"LISTEN {CHANNEL}")

    def since_commit(self) -> float:
        """Seconds from the COMMIT of a new job, which is rung for then, to its order."""
        job_id = self._insert()
        begun = time.perf_counter()
        self.bed.publisher.publish("jobs.enqueue", job_ids=[job_id])
        return self._seen(_OF_ACCOUNT, ACCOUNT) - begun

    def since_request(self) -> float:
        """Seconds from the word that asks for a job, where some wait, to the order of one."""
        begun = time.perf_counter()
        self._send(requested(self.connection_id, 1))
        seconds = self._seen(_OF_CONNECTION, self.connection_id) - begun
        self._send(requested(self.connection_id, 0), completed(self.connection_id, self._newest))
        # Before the next request: two messages that wait are handled side by side.
        wait_until(lambda: not self._read(_OF_CONNECTION, self.connection_id, ""), "the order is gone")
        return seconds

    def queue(self, count: int) -> None:
        """Let so many jobs wait, and ask for none."""
        self._send(requested(self.connection_id, 0))
        self.bed.publisher.publish("jobs.enqueue", job_ids=[self._insert() for _ in range(count)])

    def complete(self) -> None:
        """Be done with the last order."""
        self._send(completed(self.connection_id, self._newest))

    def _insert(self) -> str:
        job_id = str(ULID())
        self.session.execute(_INSERT, [job_id, f"probe/{job_id}"])
        return job_id

    def _send(self, *frames: dict[str, Any]) -> None:
        self.bed.publisher.publish("crawler.frames", frames=frames)

    def _seen(self, orders: str, whose: str) -> float:
        """The moment at which an order can be read that is newer than the last."""
        found = wait_until(lambda: self._applied(orders, whose), "an order is there", pause=0)
        at = time.perf_counter()
        ((self._newest,),) = found
        return at

    def _applied(self, orders: str, whose: str) -> list[Any]:
        """The new order, when something has happened."""
        for _ in self.listener.notifies(timeout=_UNTOLD_S, stop_after=1):
            pass
        return self._read(orders, whose, self._newest)

    def _read(self, orders: str, whose: str, after: str) -> list[Any]:
        return self.session.execute(orders, [whose, after], prepare=True).fetchall()
