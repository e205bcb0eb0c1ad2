"""Reads which gateways hold the links of crawlers, as the connections name them."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from persistence.db.snapshot import snapshot
from persistence.schema.sql import sql
from persistence.settings import settings

_GATEWAYS = sql("""
    SELECT gateway, count(*) FILTER (WHERE lost_at IS NULL) AS links, count(lost_at) AS lost,
           COALESCE(sum(jsonb_array_length(active_jobs)), 0)::int AS live, now() - max(last_heartbeat) AS silent_for
      FROM socket_connection
     WHERE is_active AND goodbye_at IS NULL AND gateway IS NOT NULL
     GROUP BY 1 ORDER BY 1 LIMIT 1000
""")


@dataclass(frozen=True)
class GatewayConnections:
    """The open connections that were last reached over a gateway."""

    links: int
    """Those whose link is not lost, as far as is known."""
    lost: int
    """Those whose link has ended without a goodbye."""
    live: int
    """Their live attempts."""
    silent_for: timedelta
    """How long ago the last sign of life of any of them was, by the database's clock."""


def gateway_connections(connection: Connection) -> dict[str, GatewayConnections]:
    """The open connections by the gateway that they name; one without any crawler is not among them."""
    rows = connection.execute(_GATEWAYS)
    return {row.gateway: GatewayConnections(row.links, row.lost, row.live, row.silent_for) for row in rows}


def read_gateway_connections() -> dict[str, GatewayConnections]:
    """The same, in a snapshot of its own."""
    with snapshot(settings().statement_timeout) as connection:
        return gateway_connections(connection)
