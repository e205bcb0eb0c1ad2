"""
A simulated gateway: holds the crawlers' links, rings for them, and reads their orders.

It keeps the two promises that a gateway owes the dispatcher. What matters is said until it is
answered: a registration until its row is there, a discovery until the view `crawler_order` lists its
timestamp, the end of a job until its order has left that view. And a bell that nobody heard is rung
again later, with nothing lost between.
"""

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import psycopg
import redis
from kombu.exceptions import OperationalError
from psycopg.rows import class_row
from ulid import ULID

from console.simulator.counters import FleetCounts

FRAMES_PER_MESSAGE = 500
BEATS_PER_MESSAGE = 1000
REGISTRATIONS_PER_STEP = 100
FLUSH_SECONDS = 0.02
"""Frames wait so long for company."""
POLL_SECONDS = 0.05
"""Between two looks at the orders; more where a look takes long."""
LONGEST_REST_SECONDS = 1.0
"""However long a look took: one that was held up by the network must not blind us for longer."""
FRESH_SECONDS = 1.0
"""A look at the orders is good for so long."""
CONNECTIONS_SECONDS = 0.25
REPEAT_SECONDS = 1.0
QUIET_SECONDS = 0.5
"""After a bell that was not heard, or a database that did not answer."""

ENDS = ("job_completed", "job_failed", "token_refresh_request")
"""Words that end an attempt."""

PUBLISH_ERRORS = (OperationalError, redis.RedisError, OSError)
"""What a lost broker makes its clients raise; anything else is a fault of ours."""

_ORDERS = """
    SELECT crawler_job_id AS fence, connection_id, "entityType" AS entity_type, "entityId" AS entity_id,
           "gitlabUrl" AS gitlab_url, resume_state, account.access_token, discoveries
      FROM crawler_order LEFT JOIN account ON account.id = crawler_order.account_id
     WHERE connection_id = ANY (%s)
     ORDER BY crawler_job_id
"""

_CONNECTIONS = "SELECT id, is_active FROM socket_connection WHERE id = ANY (%s)"


class Publisher(Protocol):
    """Whoever can publish a task by its name."""

    def ring(self, task: str, **arguments: Any) -> object:
        """Publish, or raise one of UNHEARD within seconds."""


@dataclass(frozen=True)
class Order:
    """One job for a crawler, with what the wire's job_response says of it."""

    fence: str
    """The crawler_job_id, to be echoed in every word about it."""
    connection_id: str
    entity_type: str
    entity_id: str | None
    gitlab_url: str | None
    resume_state: dict[str, Any] | None
    access_token: str | None = field(repr=False)
    discoveries: list[str] = field(default_factory=list, compare=False)
    """The timestamps of the discoveries that were applied."""


class LinkedCrawler(Protocol):
    """The crawler at the far end of a link."""

    name: str
    capacity: int

    @property
    def beats(self) -> bool:
        """Whether it proves life when it is time."""

    def fences(self) -> list[str]:
        """What it works on."""

    def accept(self, order: Order) -> None:
        """Work on this."""

    def revoke(self, fence: str) -> None:
        """Work on it no more: it was taken away."""

    def on_expired(self) -> None:
        """Its connection was closed: a new one is needed."""


@dataclass(eq=False)
class Link:
    """One connection, from its first registration to its end; its id serves once."""

    crawler: LinkedCrawler
    id: str = field(default_factory=lambda: str(ULID()))
    is_open: bool = False
    is_closed: bool = False


class Gateway:
    """Used from one thread, which calls `step` every few milliseconds."""

    def __init__(
        self,
        publisher: Publisher,
        database_url: str,
        heartbeat_seconds: float,
        counts: FleetCounts,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self._publisher = publisher
        self._flush_seconds = flush_seconds
        self._database = _Database(database_url)
        self._heartbeat_seconds = heartbeat_seconds
        self._counts = counts
        self._links: dict[str, Link] = {}
        self._orders: dict[str, Link] = {}
        self._frames: deque[dict[str, Any]] = deque()
        self._ends: dict[str, dict[str, Any]] = {}
        self._discoveries: dict[str, dict[str, dict[str, Any]]] = {}
        """By fence and timestamp: those that are not listed yet."""
        # Each is in the order of the times, since all that enter it wait equally long.
        self._registrations: deque[tuple[float, Link]] = deque()
        self._beats: deque[tuple[float, Link]] = deque()
        self._repeats: deque[tuple[float, dict[str, Any]]] = deque()
        self._disconnecting: deque[Link] = deque()
        self._next_flush = self._next_poll = self._next_connections = self._quiet_until = 0.0
        self._polled_at = 0.0

    @property
    def unsent(self) -> int:
        """Frames that wait to be sent."""
        return len(self._frames)

    def connect(self, crawler: LinkedCrawler) -> Link:
        """Begin a connection under a new id; orders come once its row is there."""
        link = Link(crawler)
        self._links[link.id] = link
        self._registrations.appendleft((0.0, link))
        return link

    def disconnect(self, link: Link) -> None:
        """Say goodbye for a crawler, and forget it."""
        self.forget(link)
        self._disconnecting.append(link)

    def forget(self, link: Link) -> None:
        """Nobody is at the far end any more."""
        self._links.pop(link.id, None)

    def send(self, link: Link, kind: str, fence: str, **data: Any) -> None:
        """Pass on what a crawler says of a job; an end or a discovery is repeated until it is answered."""
        timestamp = datetime.now(UTC).isoformat()
        frame = {"type": kind, "timestamp": timestamp, "jobId": fence, "data": data}
        message = {"connection_id": link.id, "frame": frame}
        self._frames.append(message)
        if fence not in self._orders:
            return
        if kind in ENDS:
            self._ends[fence] = message
        elif kind == "jobs_discovered":
            self._discoveries.setdefault(fence, {})[timestamp] = message

    def has_unapplied(self, fence: str) -> bool:
        """Whether anything that was discovered for this job may be lost yet."""
        return bool(self._discoveries.get(fence))

    def step(self) -> None:
        """Do all that is due at this moment."""
        now = time.monotonic()
        if now >= self._next_poll:
            self._poll()
        if now < self._next_flush:
            return
        self._next_flush = now + self._flush_seconds
        if now >= self._quiet_until:
            self._register(now)
            self._disconnect()
            self._beat(now)
        self._repeat(now)
        self._flush(now)

    def close(self) -> None:
        """Close the connection to the database."""
        self._database.close()

    # What is said

    def _register(self, now: float) -> None:
        for _ in range(REGISTRATIONS_PER_STEP):
            if not self._registrations or self._registrations[0][0] > now:
                return
            _, link = self._registrations.popleft()
            if link.is_open or link.is_closed or link.id not in self._links:
                continue
            self._registrations.append((now + REPEAT_SECONDS, link))
            crawler = link.crawler
            metadata = {"agent": "crawlyard-demo"}
            arguments = {"connection_id": link.id, "crawler_id": crawler.name, "capacity": crawler.capacity}
            if not self._publish("connections.register", **arguments, metadata=metadata):
                return

    def _disconnect(self) -> None:
        while self._disconnecting:
            if not self._publish(
                "connections.disconnect", connection_id=self._disconnecting[0].id, reason="the shift is over"
            ):
                return
            self._disconnecting.popleft()

    def _beat(self, now: float) -> None:
        """
        A beat that nobody heard is not repeated: the next one says it all.

        Jobs are listed only where the orders were read just now: a crawler that lists its jobs disowns
        the rest, and what a blind gateway has not seen is not to be disowned.
        """
        has_polled = now - self._polled_at < FRESH_SECONDS
        beats: list[dict[str, Any]] = []
        while self._beats and self._beats[0][0] <= now and len(beats) < BEATS_PER_MESSAGE:
            _, link = self._beats.popleft()
            if link.id in self._links and not link.is_closed:
                self._beats.append((now + self._heartbeat_seconds, link))
                if link.crawler.beats:
                    beats.append(_beat_of(link, lists=has_polled))
        if beats and self._publish("connections.heartbeat", beats=beats):
            self._counts.beats += len(beats)

    def _repeat(self, now: float) -> None:
        """Say again what was not answered in time."""
        while self._repeats and self._repeats[0][0] <= now:
            _, message = self._repeats.popleft()
            if self._is_unanswered(message):
                self._frames.append(message)
                self._counts.repeated += 1

    def _flush(self, now: float) -> None:
        while self._frames:
            batch = [self._frames.popleft() for _ in range(min(FRAMES_PER_MESSAGE, len(self._frames)))]
            if not self._publish("crawler.frames", frames=batch):
                self._frames.extendleft(reversed(batch))
                return
            self._counts.said += len(batch)
            self._repeats.extend(
                (now + REPEAT_SECONDS, message) for message in batch if self._is_unanswered(message)
            )

    def _is_unanswered(self, message: dict[str, Any]) -> bool:
        fence, timestamp = message["frame"]["jobId"], message["frame"]["timestamp"]
        return self._ends.get(fence) is message or self._discoveries.get(fence, {}).get(timestamp) is message

    def _publish(self, task: str, **arguments: Any) -> bool:
        """Whether the bell was heard; after one that was not there is silence for a moment."""
        if time.monotonic() < self._quiet_until:
            return False
        try:
            self._publisher.ring(task, **arguments)
        except PUBLISH_ERRORS:
            self._counts.unheard += 1
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            return False
        self._counts.rung += 1
        return True

    # What is heard

    def _poll(self) -> None:
        """Look at the orders, and now and then at the connections; rest three times as long as it took."""
        begun = time.monotonic()
        try:
            if begun >= self._next_connections:
                self._poll_connections()
                self._next_connections = time.monotonic() + CONNECTIONS_SECONDS
            self._poll_orders()
        except psycopg.OperationalError:
            self._database.close()
            self._next_poll = time.monotonic() + QUIET_SECONDS
            return
        self._polled_at = now = time.monotonic()
        self._next_poll = now + min(max(POLL_SECONDS, 3 * (now - begun)), LONGEST_REST_SECONDS)

    def _poll_connections(self) -> None:
        for connection_id, is_active in self._database.connections(list(self._links)):
            link = self._links[connection_id]
            if is_active and not link.is_open:
                link.is_open = True
                self._beats.append((time.monotonic() + self._heartbeat_seconds, link))
            elif not is_active and not link.is_closed:
                link.is_closed = True
                link.crawler.on_expired()

    def _poll_orders(self) -> None:
        orders = self._database.orders([link.id for link in self._links.values() if link.is_open])
        self._end(self._orders.keys() - {order.fence for order in orders})
        for order in orders:
            for timestamp in order.discoveries:
                self._discoveries.get(order.fence, {}).pop(timestamp, None)
            if order.fence not in self._orders:
                link = self._links[order.connection_id]
                self._orders[order.fence] = link
                link.crawler.accept(order)

    def _end(self, vanished: Iterable[str]) -> None:
        """Orders that have left the view were answered, or taken away."""
        for fence in vanished:
            link = self._orders.pop(fence)
            self._discoveries.pop(fence, None)
            if self._ends.pop(fence, None) is None:
                link.crawler.revoke(fence)


class _Database:
    """A connection that is made on first use, and again after it was lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection | None = None

    def orders(self, connection_ids: list[str]) -> list[Order]:
        """The live orders of these connections."""
        cursor = self._open().cursor(row_factory=class_row(Order))
        return cursor.execute(_ORDERS, [connection_ids]).fetchall()

    def connections(self, ids: list[str]) -> list[tuple[str, bool]]:
        """Those of the connections that are known, and whether they are active."""
        return self._open().execute(_CONNECTIONS, [ids]).fetchall()

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _open(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._url, autocommit=True, connect_timeout=2, prepare_threshold=None
            )
        return self._connection


def _beat_of(link: Link, *, lists: bool) -> dict[str, Any]:
    fences = link.crawler.fences()
    beat = {"connection_id": link.id, "system_status": "processing" if fences else "idle"}
    return beat | {"active_jobs": fences} if lists else beat
