"""What the feed of orders tells the links. Everything is called in the loop."""

from typing import Protocol

from persistence.orders.hand_over import Order
from persistence.orders.links import LinkRow
from persistence.schema.ids import ConnectionId


class OrderListener(Protocol):
    """The links, seen by the feed."""

    def attached(self, connection_id: ConnectionId, n: int, link: str) -> None:
        """Note that a connection is reached over this link now; it may be another gateway's."""

    def handed_over(self, orders: list[Order]) -> None:
        """Hand orders over to the crawlers that they are for; the same order may come again."""

    def ended(self, connection_id: ConnectionId, crawler_job_id: str, reason: str) -> None:
        """Note that an attempt is closed: its end was applied, or it was revoked."""

    def discovery_applied(self, crawler_job_id: str, timestamp: str) -> None:
        """Note that the discovery that was sent with this timestamp is applied."""

    def connection_closed(self, connection_id: ConnectionId, *, known: bool) -> None:
        """Note that a connection is closed, or that there is none with this id."""

    def connection_refused(self, connection_id: ConnectionId) -> None:
        """Note that a connection was not opened, since too many are open."""

    def reconciled(
        self, connection_id: ConnectionId, row: LinkRow | None, live: set[str] | frozenset[str]
    ) -> None:
        """Compare a link with its connection's row and live attempts, read in one snapshot."""
