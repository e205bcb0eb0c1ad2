"""Who may connect as a crawler, as a gateway asks: by the hash of a secret, or again while a link is open."""

from collections.abc import Collection
from dataclasses import dataclass

from persistence.orders.session import OrderSession

_FIND = """
    -- The hashes of former secrets have no index: two joins, each of which reads the table once at most.
    SELECT said.hash, c.id, c.name, c.capacity
      FROM unnest(%(hashes)s::text[]) AS said(hash) JOIN crawler_credential c ON c.secret_hash = said.hash
     WHERE c.revoked_at IS NULL
     UNION ALL
    SELECT said.hash, c.id, c.name, c.capacity
      FROM unnest(%(hashes)s::text[]) AS said(hash) JOIN crawler_credential c ON c.former_hash = said.hash
     WHERE c.revoked_at IS NULL AND c.former_valid_until > clock_timestamp()
"""

_REVOKED = """
    SELECT said.id FROM unnest(%(ids)s::text[]) AS said(id)
     WHERE NOT EXISTS (SELECT FROM crawler_credential c WHERE c.id = said.id AND c.revoked_at IS NULL)
"""


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential that is valid."""

    credential_id: str
    name: str
    capacity: int | None
    """The most jobs at once of one connection; None: only CRAWLYARD_MAX_CAPACITY bounds them."""


class Credentials:
    """The table `crawler_credential`, as a gateway reads it."""

    def __init__(self, session: OrderSession) -> None:
        self._session = session

    async def find(self, secret_hashes: Collection[str]) -> dict[str, Credential]:
        """
        Return the credentials whose secrets have these hashes, in hex.

        One that is unknown or revoked is left out, as is a former secret whose time is over.
        """
        rows = await self._session.rows(_FIND, {"hashes": list(secret_hashes)})
        return {hash_: Credential(*credential) for hash_, *credential in rows}

    async def revoked_among(self, credential_ids: Collection[str]) -> set[str]:
        """Return those of these credentials by which no link may stay open."""
        rows = await self._session.rows(_REVOKED, {"ids": list(credential_ids)})
        return {id_ for (id_,) in rows}
