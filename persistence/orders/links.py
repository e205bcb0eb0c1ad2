"""The rows of connections, as their gateway compares them with its links."""

from collections.abc import Collection
from dataclasses import dataclass

from persistence.orders.session import OrderSession
from persistence.schema.ids import ConnectionId

_READ = """
    SELECT id, is_active, goodbye_at IS NOT NULL, incarnation, link, session_hash, crawler_credential, active_jobs
      FROM socket_connection WHERE id = ANY (%(ids)s)
"""


@dataclass(frozen=True, slots=True)
class LinkRow:
    """What `socket_connection` says about a connection."""

    connection_id: ConnectionId
    is_active: bool
    said_goodbye: bool
    n: int | None
    link: str | None
    session_hash: str | None
    credential_id: str | None


class LinkRows:
    """The connections of links."""

    def __init__(self, session: OrderSession) -> None:
        self._session = session

    async def read(
        self, connection_ids: Collection[ConnectionId]
    ) -> dict[ConnectionId, tuple[LinkRow, frozenset[str]]]:
        """
        Read these connections, each with the crawler_job_ids of its live attempts.

        One that is not there, or not yet, is left out.
        """
        rows = await self._session.rows(_READ, {"ids": list(connection_ids)})
        return {row[0]: (LinkRow(*row[:-1]), frozenset(row[-1])) for row in rows}
