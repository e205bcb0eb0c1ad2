"""
A gateway as a user might write one, by docs/contract.md, for tests of what is behind a gateway.

It registers connections, publishes frames, and reads orders. It repeats what matters until it is answered:
a registration until its row exists, a discovery until the view `crawler_order` lists its timestamp, the end of
a job until its order has left that view. And if publishing fails, it publishes again later, and loses nothing
in between.
"""

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import psycopg
from ulid import ULID

from console.simulator.counters import FleetCounts
from console.simulator.sessions import ENDS, Order
from console.simulator.web_app import PUBLISH_ERRORS, Publisher
from support.own_gateway.orders import OrderDatabase

FRAMES_PER_MESSAGE = 500
BEATS_PER_MESSAGE = 1000
REGISTRATIONS_PER_STEP = 100
FLUSH_SECONDS = 0.02
"""Frames are collected for this long before they are published together."""
POLL_SECONDS = 0.05
"""Between two polls of the orders; longer if a poll takes long."""
LONGEST_REST_SECONDS = 1.0
"""Upper bound of that: after a poll that the network delayed, the next one must not be late too."""
FRESH_SECONDS = 1.0
"""The result of a poll counts as current for this long."""
CONNECTIONS_SECONDS = 0.25
REPEAT_SECONDS = 1.0
QUIET_SECONDS = 0.5
"""Pause after publishing has failed, or after the database did not answer."""


class LinkedCrawler(Protocol):
    """The crawler at the other end of a link."""

    name: str
    capacity: int

    @property
    def beats(self) -> bool:
        """True if it sends heartbeats."""

    def fences(self) -> list[str]:
        """The fences of the attempts that it works on."""

    def accept(self, order: Order) -> None:
        """Start to work on an order."""

    def revoke(self, fence: str) -> None:
        """Stop working on an order that was revoked."""

    def on_expired(self) -> None:
        """React to the end of its connection; it needs a new one."""


@dataclass(eq=False)
class Link:
    """One connection, from its first registration to its end; its id is never used again."""

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
        self._database = OrderDatabase(database_url)
        self._heartbeat_seconds = heartbeat_seconds
        self._counts = counts
        self._links: dict[str, Link] = {}
        self._orders: dict[str, Link] = {}
        self._frames: deque[dict[str, Any]] = deque()
        self._ends: dict[str, dict[str, Any]] = {}
        self._discoveries: dict[str, dict[str, dict[str, Any]]] = {}
        """Frames by fence and timestamp, until the view lists the timestamp."""
        # Each of these queues is sorted by time, since all of its items wait equally long.
        self._registrations: deque[tuple[float, Link]] = deque()
        self._beats: deque[tuple[float, Link]] = deque()
        self._repeats: deque[tuple[float, dict[str, Any]]] = deque()
        self._disconnecting: deque[Link] = deque()
        self._next_flush = self._next_poll = self._next_connections = self._quiet_until = 0.0
        self._polled_at = 0.0
        self.unheard = 0
        """Attempts to publish that failed; the messages were published later."""

    @property
    def unsent(self) -> int:
        """The number of frames that are not published yet."""
        return len(self._frames)

    def connect(self, crawler: LinkedCrawler) -> Link:
        """Start a connection under a new id; orders arrive once its row exists."""
        link = Link(crawler)
        self._links[link.id] = link
        self._registrations.appendleft((0.0, link))
        return link

    def disconnect(self, link: Link) -> None:
        """Disconnect a crawler, and forget its link."""
        self.forget(link)
        self._disconnecting.append(link)

    def forget(self, link: Link) -> None:
        """Forget a link, whose crawler is gone."""
        self._links.pop(link.id, None)

    def send(self, link: Link, kind: str, fence: str, **data: Any) -> None:
        """Send a crawler's frame about a job; an end or a discovery is repeated until it is answered."""
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
        """Return true if a discovery frame of this job may not have been applied yet."""
        return bool(self._discoveries.get(fence))

    def step(self) -> None:
        """Do everything that is due now."""
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

    # Publishing

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
        Publish heartbeats; a failed one is not repeated, since the next one replaces it.

        A heartbeat lists the crawler's jobs only if the orders were read just now: jobs that it does not list are
        disowned, and a gateway that could not read the orders does not know all of them.
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
        """Queue the frames again that were not answered in time."""
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
        """Publish, and return true if it worked; after a failure, publish nothing for a moment."""
        if time.monotonic() < self._quiet_until:
            return False
        try:
            self._publisher.publish(task, arguments)
        except PUBLISH_ERRORS:
            self.unheard += 1
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            return False
        return True

    # Reading

    def _poll(self) -> None:
        """Read the orders and, less often, the connections; then pause for three times as long as that took."""
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
        self._end(self._orders.keys() - {row.order.fence for row in orders})
        for row in orders:
            fence = row.order.fence
            for timestamp in row.discoveries:
                self._discoveries.get(fence, {}).pop(timestamp, None)
            if fence not in self._orders:
                link = self._links[row.connection_id]
                self._orders[fence] = link
                link.crawler.accept(row.order)

    def _end(self, vanished: Iterable[str]) -> None:
        """Handle orders that have left the view: their ends were applied, or they were revoked."""
        for fence in vanished:
            link = self._orders.pop(fence)
            self._discoveries.pop(fence, None)
            if self._ends.pop(fence, None) is None:
                link.crawler.revoke(fence)


def _beat_of(link: Link, *, lists: bool) -> dict[str, Any]:
    fences = link.crawler.fences()
    beat = {"connection_id": link.id, "system_status": "processing" if fences else "idle"}
    return beat | {"active_jobs": fences} if lists else beat
