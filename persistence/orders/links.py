"""The rows of connections, as their gateway compares them with its links."""

from dataclasses import dataclass

from persistence.schema.ids import ConnectionId


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
