"""What the links ask about credentials."""

from collections.abc import Collection
from typing import Protocol

from persistence.orders.credentials import Credential


class CredentialSource(Protocol):
    """The table of credentials, seen by the links."""

    async def find(self, secret_hash: str) -> Credential | None:
        """
        Return the valid credential whose secret has this hash.

        Raises DatabaseLost if Postgres does not answer.
        """

    async def revoked(self, credential_ids: Collection[str]) -> set[str]:
        """Return those of these that are not valid any more. Raises DatabaseLost if Postgres does not answer."""
