"""
The links of a gateway by their connections: what the orders tell is passed on to the right ones.

A connection has several links for a moment, when its crawler comes back before the end of its old link was seen.
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from operator import methodcaller
from typing import Final

from gateway.links.context import Neighbour
from gateway.links.link import Link
from gateway.metrics import metrics
from gateway.orders.source import OrderSource
from persistence.exceptions import CrawlyardError
from persistence.orders.hand_over import Order
from persistence.orders.links import LinkRow
from persistence.schema.ids import ConnectionId

OFTEN: Final = 20
"""Entrances of one crawler within OFTEN_S seconds, beyond which it is held off."""
OFTEN_S: Final = 60.0
_LONGEST_S: Final = 60.0
_MAX_REMEMBERED: Final = 50_000


class Registry:
    """All links that have said which connection they are for."""

    orders: OrderSource
    """Set once, before the first link: the feed needs the registry too."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_draining = False
        self._clock = clock
        self._links: dict[ConnectionId, list[Link]] = {}
        self._by_crawler: dict[tuple[str | None, str], set[Link]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._entrances: dict[object, tuple[float, float]] = {}
        """By crawler: when it came last, and how often lately."""

    def __iter__(self) -> Iterator[Link]:
        return iter([link for links in self._links.values() for link in links])

    def __len__(self) -> int:
        return sum(len(links) for links in self._links.values())

    def connections(self) -> Collection[ConnectionId]:
        """The connections whose orders are wanted."""
        return self._links.keys()

    # Neighbours of a link

    def enter(self, link: Neighbour) -> None:
        """Take a link in, which has said whose it is."""
        assert isinstance(link, Link)
        assert link.claim
        self._links.setdefault(link.claim.connection_id, []).append(link)
        self._by_crawler.setdefault(_crawler_of(link), set()).add(link)

    def leave(self, link: Neighbour) -> None:
        """Forget a link that is closed."""
        assert isinstance(link, Link)
        assert link.claim
        links = self._links.get(link.claim.connection_id, [])
        if link not in links:
            return
        links.remove(link)
        if not links:
            del self._links[link.claim.connection_id]
        same = self._by_crawler[_crawler_of(link)]
        same.discard(link)
        if not same:
            del self._by_crawler[_crawler_of(link)]

    def of(self, connection_id: ConnectionId) -> Collection[Link]:
        """The links of a connection, the newest last."""
        return tuple(self._links.get(connection_id, ()))

    def hold_off(self, link: Neighbour) -> float:
        """Return for how many seconds a link is held off, since its crawler has come too often; 0 if it has not."""
        assert link.claim
        assert link.hello
        now = self._clock()
        key = link.claim.connection_id if link.hello.session else (_crawler_of(link), link.peer.source)
        self._forget_entrances(now)
        at, level = self._entrances.pop(key, (now, 0.0))
        level = max(0.0, level - (now - at) * OFTEN / OFTEN_S) + 1
        self._entrances[key] = now, min(level, 2 * OFTEN)
        beyond = math.ceil(level) - OFTEN
        return min(2.0**beyond, _LONGEST_S) if beyond > 0 else 0

    def _forget_entrances(self, now: float) -> None:
        """Forget crawlers that have not come for a while; the first are those that came last the longest time ago."""
        while self._entrances:
            key, (at, _) = next(iter(self._entrances.items()))
            if now - at <= OFTEN_S and len(self._entrances) < _MAX_REMEMBERED:
                return
            del self._entrances[key]

    def greet(self, link: Neighbour) -> None:
        """Look after the other links of a crawler that begins a new connection."""
        for other in self._by_crawler.get(_crawler_of(link), ()):
            if other is not link and other.is_open:
                metrics.count("crawler_id_shared")
                other.ping_soon()

    # What the orders tell

    def attached(self, connection_id: ConnectionId, n: int, link: str) -> None:
        """Note that a connection is reached over this link now."""
        for ours in self.of(connection_id):
            ours.attempt(lambda one: one.attached((n, link)))

    def handed_over(self, orders: list[Order]) -> None:
        """Hand orders over to the newest links of their connections."""
        of_connection: dict[ConnectionId, list[Order]] = {}
        for order in orders:
            of_connection.setdefault(order.connection_id, []).append(order)
        for connection_id, theirs in of_connection.items():
            for link in self.of(connection_id):
                link.attempt(methodcaller("hand_over", theirs))

    def ended(self, connection_id: ConnectionId, crawler_job_id: str, reason: str) -> None:
        """Note that an attempt is closed."""
        for link in self.of(connection_id):
            link.attempt(lambda one: one.end(crawler_job_id, reason))

    def discovery_applied(self, crawler_job_id: str, timestamp: str) -> None:
        """Nothing here waits for it: the reports see it by the message."""

    def connection_closed(self, connection_id: ConnectionId, *, known: bool) -> None:  # noqa: ARG002 - the row tells
        """
        Look whether a connection is closed, or whether there is none with this id.

        The event does not say whose link it is about: somebody else may have come with the session.
        """
        if connection_id in self._links:
            self.orders.look_at(connection_id)

    def connection_refused(self, connection_id: ConnectionId) -> None:
        """Note that a connection was not opened."""
        for link in self.of(connection_id):
            link.attempt(lambda one: one.refused())

    def reconciled(self, connection_id: ConnectionId, row: LinkRow | None, live: Collection[str]) -> None:
        """Compare the links of a connection with its row."""
        for link in self.of(connection_id):
            if link.attempt(lambda one: one.reconcile(row, live)):
                task = asyncio.ensure_future(self._catch_up(connection_id))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _catch_up(self, connection_id: ConnectionId) -> None:
        """Hand over what a connection should have been given; at the next comparison, if the database is away."""
        with suppress(CrawlyardError):
            self.handed_over(await self.orders.live_orders(connection_id))

    def room(self, connection_id: ConnectionId) -> None:
        """Read the links of a connection again, after the reports had taken too much of it."""
        for link in self.of(connection_id):
            link.room()


def _crawler_of(link: Neighbour) -> tuple[str | None, str]:
    assert link.claim
    return link.claim.credential_id, link.claim.crawler_id
