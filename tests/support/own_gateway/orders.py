"""Reads the gateway's part of the database: the orders of crawlers, and which connections are active."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from console.simulator.sessions import Order

_ORDERS = """
    SELECT crawler_job_id AS fence, connection_id, "entityType" AS entity_type, "entityId" AS entity_id,
           "gitlabUrl" AS gitlab_url, resume_state, account.access_token, discoveries
      FROM crawler_order LEFT JOIN account ON account.id = crawler_order.account_id
     WHERE connection_id = ANY (%s)
     ORDER BY crawler_job_id
"""

_CONNECTIONS = "SELECT id, is_active FROM socket_connection WHERE id = ANY (%s)"


@dataclass(frozen=True)
class OrderRow:
    """A row of `crawler_order`."""

    connection_id: str
    order: Order
    discoveries: list[str]
    """The timestamps of the discovery frames that were applied."""


class OrderDatabase:
    """A database connection that is opened on first use, and reopened after it was lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection | None = None

    def orders(self, connection_ids: list[str]) -> list[OrderRow]:
        """Read the live orders of these connections."""
        rows: list[Any] = (
            self._open().cursor(row_factory=namedtuple_row).execute(_ORDERS, [connection_ids]).fetchall()
        )
        return [OrderRow(row.connection_id, Order(*row[:1], *row[2:7]), row.discoveries) for row in rows]

    def connections(self, ids: list[str]) -> list[tuple[str, bool]]:
        """Read which of these connections exist, and whether they are active."""
        return self._open().execute(_CONNECTIONS, [ids]).fetchall()

    def close(self) -> None:
        """Close the connection; the next read opens another."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _open(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._url, autocommit=True, connect_timeout=2, prepare_threshold=None
            )
        return self._connection
