"""Which connection a link is for, and its place among the links of that connection."""

from dataclasses import dataclass, replace

from ulid import ULID

from gateway.links.hello import Hello, Identity, capacity_of
from gateway.links.session import hash_of, new_session
from persistence.orders.links import LinkRow
from persistence.schema.ids import ConnectionId


@dataclass(frozen=True, slots=True)
class Claim:
    """The link of a connection, as `connections.attach` says it."""

    connection_id: ConnectionId
    session: str
    crawler_id: str
    n: int
    link: str
    capacity: int
    credential_id: str | None

    @property
    def place(self) -> tuple[int, str]:
        """Of two links of one connection the one with the greater place is the newer."""
        return self.n, self.link

    def owns(self, row: LinkRow) -> bool:
        """True if the connection of the row can be reached by this link."""
        return (
            row.is_active
            and not row.said_goodbye
            and row.session_hash == hash_of(self.session)
            and row.credential_id == self.credential_id
        )


def fresh_claim(hello: Hello, identity: Identity) -> Claim:
    """Return the claim of a crawler to a new connection."""
    id_ = ConnectionId(str(ULID()))
    return Claim(
        id_,
        new_session(id_),
        hello.crawler_id,
        hello.n,
        str(ULID()),
        capacity_of(hello.capacity, identity),
        identity.credential_id,
    )


def claim_of(hello: Hello, identity: Identity) -> Claim:
    """Return what a crawler claims: the connection of its session, or a new one."""
    claim = fresh_claim(hello, identity)
    if not hello.session or not hello.connection_id:
        return claim
    return replace(claim, connection_id=hello.connection_id, session=hello.session)
