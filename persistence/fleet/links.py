"""
The links by which crawlers reach their connections, each held by a gateway.

A connection outlives its links. Its crawler numbers them, so which one is the newest depends on no clock and on no
order of messages.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from persistence.fleet.open_connections import room_for_connections
from persistence.schema.ids import ConnectionId
from persistence.schema.sql import among, sql
from persistence.schema.tables import SocketConnection
from persistence.settings import settings

_ATTACH = sql("""
    WITH said AS (
        SELECT * FROM jsonb_to_recordset(CAST(:links AS jsonb))
            AS l(connection_id text, crawler_id text, n bigint, link text, gateway text, capacity int,
                 session_hash text, credential_id text)
    )
    INSERT INTO socket_connection AS c
           (id, crawler_id, incarnation, link, gateway, session_hash, crawler_credential, last_heartbeat,
            capacity, asked_capacity)
    SELECT connection_id, crawler_id, n, link, gateway, session_hash, credential_id, clock_timestamp(),
           LEAST(capacity, :max_capacity), CASE WHEN capacity > :max_capacity THEN capacity END
      FROM said
     -- in order: two workers that lock in the order of their messages deadlock
     ORDER BY connection_id
    ON CONFLICT (id) DO UPDATE
       SET incarnation = EXCLUDED.incarnation, link = EXCLUDED.link, gateway = EXCLUDED.gateway, lost_at = NULL,
           last_heartbeat = GREATEST(c.last_heartbeat, EXCLUDED.last_heartbeat),
           capacity = EXCLUDED.capacity, asked_capacity = EXCLUDED.asked_capacity
     WHERE c.is_active AND c.goodbye_at IS NULL
       AND c.session_hash = EXCLUDED.session_hash
       AND c.crawler_credential IS NOT DISTINCT FROM EXCLUDED.crawler_credential
       AND (c.incarnation, c.link COLLATE "C") < (EXCLUDED.incarnation, EXCLUDED.link COLLATE "C")
    -- a row that was there has been locked by this transaction
    RETURNING c.id, c.xmax = 0 AS is_new
""")

_RESUMABLE = select(
    SocketConnection.id, SocketConnection.session_hash, SocketConnection.crawler_credential
).where(among(SocketConnection.id), SocketConnection.is_active, SocketConnection.goodbye_at.is_(None))

_WITH_THESE_IDS = select(SocketConnection.id).where(among(SocketConnection.id))


@dataclass(frozen=True)
class Link:
    """A link between a crawler and a gateway."""

    connection_id: ConnectionId
    crawler_id: str | None
    n: int
    """The crawler's number for it, raised at every attempt to connect."""
    link: str
    """The gateway's name for it: of two with one number, the greater is the newer."""
    gateway: str
    capacity: int
    session_hash: str
    """The SHA-256 of the session that the crawler has shown, in hex."""
    credential_id: str | None


class Links:
    """The columns of `socket_connection` that say over which link its crawler is reached."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def attach(self, links: Iterable[Link]) -> dict[ConnectionId, bool]:
        """
        Open connections, or let open ones be reached over a newer link, one each; that proves that they are alive.

        Returns those that changed; the value tells which are new. A connection stays as it is if it has a newer link,
        is closed, has disconnected, or belongs to another session or credential.
        """
        rows = json.dumps([vars(link) for link in links])
        values = {"links": rows, "max_capacity": settings().max_capacity}
        return {ConnectionId(row.id): row.is_new for row in self._session.execute(_ATTACH, values)}

    def beyond_limit(self, ids: Collection[ConnectionId]) -> list[ConnectionId]:
        """
        Return those connections that are not there yet and for which there is no room: the last ones.

        Units that commit at the same moment may open a few more.
        """
        known = set(self._session.scalars(_WITH_THESE_IDS, {"ids": list(ids)}))
        new = sorted(set(ids) - known)
        return new[room_for_connections(self._session) :] if new else []

    def not_resumable(self, links: Mapping[ConnectionId, Link]) -> set[ConnectionId]:
        """Return those connections that their links can never reach: closed, disconnected, or of somebody else."""
        theirs = {
            row.id: (row.session_hash, row.crawler_credential)
            for row in self._session.execute(_RESUMABLE, {"ids": list(links)})
        }
        return {
            id_ for id_, link in links.items() if theirs.get(id_) != (link.session_hash, link.credential_id)
        }

    def mark_lost(self, connection_id: ConnectionId, n: int, link: str) -> bool:
        """
        Note that a connection's link has ended without a goodbye, unless the connection has another link by now.

        It gets no jobs until a newer link is attached. Returns False if nothing changed.
        """
        marked = (
            update(SocketConnection)
            .where(
                SocketConnection.id == connection_id,
                SocketConnection.is_active,
                SocketConnection.incarnation == n,
                SocketConnection.link == link,
                SocketConnection.lost_at.is_(None),
            )
            .values(lost_at=func.clock_timestamp())
            .returning(SocketConnection.id)
            .execution_options(synchronize_session=False)
        )
        return self._session.scalars(marked).one_or_none() is not None
