"""What the links ask the feed of orders for."""

from collections.abc import Collection
from typing import Protocol

from persistence.orders.attempts import OwnAttempts
from persistence.orders.hand_over import Order
from persistence.schema.ids import ConnectionId


class OrderSource(Protocol):
    """The feed, seen by the links."""

    @property
    def is_current(self) -> bool:
        """False while Postgres does not answer: the links may not know all of their orders."""

    def wake(self) -> None:
        """Look for news soon."""

    def look_at(self, connection_id: ConnectionId) -> None:
        """Compare this connection with its row soon, and call `reconciled`."""

    async def attempts_of(self, connection_id: ConnectionId, crawler_job_ids: Collection[str]) -> OwnAttempts:
        """Tell which of these attempts are the connection's. Raises DatabaseLost if Postgres does not answer."""

    async def live_orders(self, connection_id: ConnectionId) -> list[Order]:
        """Read all live orders of a connection. Raises DatabaseLost if Postgres does not answer."""
