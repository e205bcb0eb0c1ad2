"""What every link of a gateway has to do with."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from gateway.links.claim import Claim
from gateway.links.hello import Door, Hello, Identity
from gateway.links.jobs import Jobs
from gateway.listeners.peer import Peer
from gateway.orders.source import OrderSource
from gateway.reports.sink import ReportSink
from persistence.schema.ids import ConnectionId


class Neighbour(Protocol):
    """A link, seen by others."""

    hello: Hello | None
    identity: Identity | None
    claim: Claim | None
    is_said: bool
    """True once `connections.attach` was published: the row may name this link."""

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""

    def know(self, identity: Identity) -> None:
        """Note who is at the other end."""

    @property
    def is_open(self) -> bool:
        """True if its crawler is welcome, and it is the newest link of its connection."""

    @property
    def jobs(self) -> Jobs | None:
        """What is known of its connection's attempts; None before the welcome."""

    def acknowledge(self, id_: str | None) -> None:
        """Tell the crawler that a frame has been handled."""


class Neighbours(Protocol):
    """The other links, seen by one."""

    is_draining: bool

    def enter(self, link: Neighbour) -> None:
        """Take a link in, which has said whose it is."""

    def leave(self, link: Neighbour) -> None:
        """Forget a link that is closed or has been said goodbye to."""

    def of(self, connection_id: ConnectionId) -> Collection[Neighbour]:
        """The links of a connection, the newest last."""

    def hold_off(self, link: Neighbour) -> float:
        """Return for how many seconds a link is held off, since its crawler has come too often."""

    def greet(self, link: Neighbour) -> None:
        """Look after the other links of a crawler that begins a new connection."""


@dataclass(frozen=True)
class Context:
    """The gateway, seen by a link."""

    name: str
    reports: ReportSink
    orders: OrderSource
    door: Door
    neighbours: Neighbours
    heartbeat_interval: float
    """Seconds."""
    clock: Callable[[], float] = time.monotonic
