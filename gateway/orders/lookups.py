"""
What the links ask the database, within one bound of queries.

What many of them ask at the same time is one query, as when they all come back after an outage. Each question raises
a TransientError while the database is away.
"""

import asyncio
from collections.abc import Collection, Sequence

from gateway.orders.pace import Pace
from gateway.orders.together import Together
from persistence.orders.attempts import AttemptRows, OwnAttempts
from persistence.orders.credentials import Credential, Credentials
from persistence.orders.hand_over import Order, Orders
from persistence.orders.handled import HandledMessages
from persistence.orders.session import OrderSession
from persistence.schema.ids import ConnectionId


class CredentialLookups:
    """Who may connect; a `CredentialSource`."""

    def __init__(self, session: OrderSession, pace: Pace) -> None:
        self._pace = pace
        self._credentials = Credentials(session)
        self._find = Together(self._credentials.find, pace)

    async def find(self, secret_hash: str) -> Credential | None:
        """Return the valid credential whose secret has this hash, in hex."""
        return await self._find.ask(secret_hash)

    async def revoked(self, credential_ids: Collection[str]) -> set[str]:
        """Return those of these by which no link may stay open."""
        if not credential_ids:
            return set()
        await self._pace.wait()
        return await self._credentials.revoked_among(credential_ids)


class OrderLookups:
    """The orders and attempts of connections."""

    def __init__(self, session: OrderSession, pace: Pace) -> None:
        self._orders_of = Together(Orders(session).of_connections, pace)
        self._is_live = Together(AttemptRows(session).are_live, pace)

    async def live_orders(self, connection_id: ConnectionId) -> list[Order]:
        """Read all live orders of a connection, with tokens, the oldest first."""
        return await self._orders_of.ask(connection_id) or []

    async def attempts_of(self, connection_id: ConnectionId, crawler_job_ids: Collection[str]) -> OwnAttempts:
        """Tell which of these attempts are the connection's."""
        ids = list(crawler_job_ids)
        answers = await asyncio.gather(*(self._is_live.ask((connection_id, id_)) for id_ in ids))
        known = dict(zip(ids, answers, strict=True))
        return OwnAttempts(
            live=frozenset(id_ for id_, is_live in known.items() if is_live),
            closed=frozenset(id_ for id_, is_live in known.items() if is_live is False),
        )


class HandledLookups:
    """Which messages the workers have handled; what the reports ask for."""

    def __init__(self, session: OrderSession, pace: Pace) -> None:
        self._pace = pace
        self._messages = HandledMessages(session)

    async def handled(self, ids: Sequence[str]) -> set[str]:
        """Return those of these messages that were applied or rejected."""
        if not ids:
            return set()
        await self._pace.wait()
        return await self._messages.among(ids)
