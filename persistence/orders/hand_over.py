"""
The orders of crawlers as they are handed over, each with the access token of its account.

The token is read here alone, and kept nowhere: whoever reads an order passes it on at once.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from psycopg.rows import TupleRow

from persistence.orders.session import OrderSession
from persistence.schema.ids import ConnectionId
from persistence.schema.sql import fragment

_ORDERS = """
    SELECT o.crawler_job_id, o.connection_id, o.account_id, o.command, o."entityType", o."entityId", o."gitlabUrl",
           o.resume_state, o.discoveries, account.access_token
      FROM crawler_order o LEFT JOIN account ON account.id = o.account_id
     WHERE o.connection_id = ANY (%(connections)s)
"""

_OF_CONNECTIONS = fragment(
    """
    $orders
       -- The same once more, as a list: else tables that were never analyzed are read whole.
       AND o.crawler_job_id = ANY (ARRAY (SELECT jsonb_array_elements_text(active_jobs)
                                            FROM socket_connection WHERE id = ANY (%(connections)s)))
     ORDER BY o.crawler_job_id
    """,
    orders=_ORDERS,
)

_OF_FENCES = fragment(
    "$orders AND o.crawler_job_id = ANY (%(fences)s) ORDER BY o.crawler_job_id", orders=_ORDERS
)


@dataclass(frozen=True, slots=True)
class Order:
    """An order, as the view `crawler_order` has it, and the token that it is done with."""

    crawler_job_id: str
    connection_id: ConnectionId
    account_id: str
    command: str
    entity_type: str
    entity_id: str
    gitlab_url: str | None
    resume_state: dict[str, Any] | None
    discoveries: tuple[str, ...]
    """The timestamps of the discoveries that were applied, as they were sent."""
    access_token: str | None = field(repr=False)


Fence = tuple[ConnectionId, str]
"""An attempt, and the connection that it is on."""


class Orders:
    """The view `crawler_order`, with tokens."""

    def __init__(self, session: OrderSession) -> None:
        self._session = session

    async def of_fences(self, fences: Iterable[Fence]) -> list[Order]:
        """Read those of these attempts that are live, the oldest first."""
        connections, ids = zip(*fences, strict=True)
        values = {"connections": sorted(set(connections)), "fences": list(ids)}
        return [_order(row) for row in await self._session.rows(_OF_FENCES, values)]

    async def of_connections(
        self, connection_ids: Collection[ConnectionId]
    ) -> dict[ConnectionId, list[Order]]:
        """Read all live orders of each of these connections, the oldest first; [] if it has none."""
        orders: dict[ConnectionId, list[Order]] = {id_: [] for id_ in connection_ids}
        for row in await self._session.rows(_OF_CONNECTIONS, {"connections": list(orders)}):
            order = _order(row)
            orders[order.connection_id].append(order)
        return orders


def _order(row: TupleRow) -> Order:
    return Order(*(*row[:-2], tuple(row[-2]), row[-1]))
