"""Sessions of a simulated fleet with a gateway of its own, without sockets."""

import time
from collections.abc import Callable
from typing import Any

from console.simulator.counters import FleetCounts
from console.simulator.sessions import LinkedCrawler, Order
from console.simulator.web_app import Publisher
from support.own_gateway.gateway import FLUSH_SECONDS, Gateway


def own_gateway(
    publisher: Publisher,
    database_url: str,
    heartbeat_seconds: float = 30.0,
    flush_seconds: float = FLUSH_SECONDS,
) -> Callable[[FleetCounts], "OwnSessions"]:
    """How a fleet opens its sessions with a gateway that publishes and reads like this."""
    return lambda counts: OwnSessions(
        Gateway(publisher, database_url, heartbeat_seconds, counts, flush_seconds)
    )


class OwnSessions:
    """All sessions with one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    @property
    def unsent(self) -> int:
        """The number of frames that are not published yet."""
        return self.gateway.unsent

    def open(self, crawler: LinkedCrawler) -> "OwnSession":
        """Register a connection."""
        return OwnSession(self.gateway, crawler)

    def step(self, seconds: float) -> None:
        """Do everything that is due, and wait."""
        self.gateway.step()
        time.sleep(seconds)

    def close(self) -> None:
        """Close the connection to the database."""
        self.gateway.close()


class OwnSession:
    """One crawler's session: a connection, and another one where that was closed."""

    def __init__(self, gateway: Gateway, crawler: LinkedCrawler) -> None:
        self.name, self.capacity = crawler.name, crawler.capacity
        self._gateway = gateway
        self._crawler = crawler
        self._is_frozen = self._is_gone = self._has_expired = False
        self.link = gateway.connect(self)

    # For the gateway

    @property
    def beats(self) -> bool:
        """True if it sends heartbeats."""
        return not (self._is_frozen or self._is_gone)

    def fences(self) -> list[str]:
        """The fences of the attempts that the crawler works on."""
        return self._crawler.fences()

    def accept(self, order: Order) -> None:
        """Hand an order over."""
        self._crawler.accept(order)

    def revoke(self, fence: str) -> None:
        """Tell the crawler to stop working on an order; a frozen one does not react."""
        if not self._is_frozen:
            self._crawler.revoke(fence)

    def on_expired(self) -> None:
        """Register again, immediately or after waking up."""
        self._has_expired = True
        if not self._is_frozen:
            self._renew()

    # For the crawler

    @property
    def is_open(self) -> bool:
        """True if the connection's row was seen."""
        return self.link.is_open

    @property
    def connection_id(self) -> str:
        """The id of its connection."""
        return self.link.id

    @property
    def is_given_up(self) -> bool:
        """True if a frozen crawler's connection was closed."""
        return self._is_frozen and self._has_expired

    def send(self, kind: str, fence: str, **data: Any) -> None:
        """Have a frame published."""
        self._gateway.send(self.link, kind, fence, **data)

    def has_unapplied(self, fence: str) -> bool:
        """True if a discovery of the job may not have been applied yet."""
        return self._gateway.has_unapplied(fence)

    def freeze(self) -> None:
        """Send no heartbeat, and learn nothing."""
        self._is_frozen = True

    def wake_up(self) -> None:
        """Learn what happened meanwhile."""
        self._is_frozen = False
        if self._has_expired:
            self._renew()

    def leave(self) -> None:
        """Disconnect."""
        self._is_gone = True
        self._gateway.disconnect(self.link)

    def die(self) -> None:
        """Vanish."""
        self._is_gone = True
        self._gateway.forget(self.link)

    def _renew(self) -> None:
        self._crawler.keep_only(())
        self._gateway.forget(self.link)
        self.link = self._gateway.connect(self)
        self._has_expired = False
