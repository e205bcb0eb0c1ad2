"""Reads the gateway's part of the database: the orders of crawlers, and which connections are active."""

from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import class_row

_ORDERS = """
    SELECT crawler_job_id AS fence, connection_id, "entityType" AS entity_type, "entityId" AS entity_id,
           "gitlabUrl" AS gitlab_url, resume_state, account.access_token, discoveries
      FROM crawler_order LEFT JOIN account ON account.id = crawler_order.account_id
     WHERE connection_id = ANY (%s)
     ORDER BY crawler_job_id
"""

_CONNECTIONS = "SELECT id, is_active FROM socket_connection WHERE id = ANY (%s)"


@dataclass(frozen=True)
class Order:
    """One job for a crawler, with the contents of the wire's job_response."""

    fence: str
    """The crawler_job_id, which every frame about the job must contain."""
    connection_id: str
    entity_type: str
    entity_id: str | None
    gitlab_url: str | None
    resume_state: dict[str, Any] | None
    access_token: str | None = field(repr=False)
    discoveries: list[str] = field(default_factory=list, compare=False)
    """The timestamps of the discovery frames that were applied."""


class OrderDatabase:
    """A database connection that is opened on first use, and reopened after it was lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection | None = None

    def orders(self, connection_ids: list[str]) -> list[Order]:
        """Read the live orders of these connections."""
        cursor = self._open().cursor(row_factory=class_row(Order))
        return cursor.execute(_ORDERS, [connection_ids]).fetchall()

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
