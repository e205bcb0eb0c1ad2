"""A gateway's feed of orders that a test drives itself, and what it tells."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gateway.orders.feed import Feed
from persistence.orders.hand_over import Order
from persistence.orders.links import LinkRow
from persistence.orders.session import OrderSession
from persistence.schema.ids import ConnectionId

Answer = TypeVar("Answer")


@dataclass
class Told:
    """Records what the feed tells the links."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    orders: dict[str, Order] = field(default_factory=dict)
    rows: dict[str, tuple[LinkRow | None, set[str]]] = field(default_factory=dict)

    def attached(self, connection_id: ConnectionId, n: int, link: str) -> None:
        """Record it."""
        self.calls.append(("attached", connection_id, n, link))

    def handed_over(self, orders: list[Order]) -> None:
        """Record it."""
        for order in orders:
            self.calls.append(("handed_over", order.connection_id, order.crawler_job_id))
            self.orders[order.crawler_job_id] = order

    def ended(self, connection_id: ConnectionId, crawler_job_id: str, reason: str) -> None:
        """Record it."""
        self.calls.append(("ended", connection_id, crawler_job_id, reason))

    def discovery_applied(self, crawler_job_id: str, timestamp: str) -> None:
        """Record it."""
        self.calls.append(("discovery_applied", crawler_job_id, timestamp))

    def connection_closed(self, connection_id: ConnectionId, *, known: bool) -> None:
        """Record it."""
        self.calls.append(("connection_closed", connection_id, known))

    def connection_refused(self, connection_id: ConnectionId) -> None:
        """Record it."""
        self.calls.append(("connection_refused", connection_id))

    def reconciled(
        self, connection_id: ConnectionId, row: LinkRow | None, live: set[str] | frozenset[str]
    ) -> None:
        """Record it, apart from the other calls."""
        self.rows[connection_id] = (row, set(live))

    def take(self) -> list[tuple[Any, ...]]:
        """Return the calls since the last time."""
        calls, self.calls = self.calls, []
        return calls


class Followed:
    """A feed, a loop in which it runs, and what it told."""

    def __init__(
        self, runner: "asyncio.Runner", connections: list[str], page_rows: int | None, url: str | None
    ) -> None:
        self.told = Told()
        self.connections = {ConnectionId(id_): None for id_ in connections}
        self.session = OrderSession(url)
        self.feed = Feed(self.told, self.connections.keys, self.session, page_rows)
        self._runner = runner

    def run(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        """Run a coroutine to its end."""
        return self._runner.run(coroutine)

    def look(self) -> list[tuple[Any, ...]]:
        """Let the feed look once, and return what it told, but for comparisons."""
        self.run(self.feed.look())
        return self.told.take()

    def rows(self) -> dict[str, tuple[LinkRow | None, set[str]]]:
        """Let the feed look until nothing is left to compare, and return what was compared."""
        self.told.rows.clear()
        self.look()
        while self.feed._rotation.has_more:
            self.look()
        return self.told.rows


@contextmanager
def followed(*connections: str, page_rows: int | None = None, url: str | None = None) -> Iterator[Followed]:
    """Follow the orders of these connections from now on, in the settings' database or that of a URL."""
    with asyncio.Runner() as runner:
        followed = Followed(runner, list(connections), page_rows, url)
        followed.look()
        try:
            yield followed
        finally:
            runner.run(followed.session.close())
