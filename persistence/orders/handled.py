"""Which messages the workers have handled: applied or rejected for good."""

from collections.abc import Collection

from persistence.orders.session import OrderSession

_READ = "SELECT message_id FROM handled_message WHERE message_id = ANY (%(ids)s) AND applied"


class HandledMessages:
    """The table `handled_message`, as a gateway reads it."""

    def __init__(self, session: OrderSession) -> None:
        self._session = session

    async def among(self, message_ids: Collection[str]) -> set[str]:
        """Return those of these messages that are handled; payloads that they refused may still be stored later."""
        return {id_ for (id_,) in await self._session.rows(_READ, {"ids": list(message_ids)})}
