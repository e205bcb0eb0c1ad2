"""Which messages have left their queue: a message is known here as soon as it is applied or rejected."""

from collections.abc import Collection

from persistence.orders.session import OrderSession

_READ = "SELECT message_id, applied FROM handled_message WHERE message_id = ANY (%(ids)s)"


class HandledMessages:
    """The table `handled_message`, as a gateway reads it."""

    def __init__(self, session: OrderSession) -> None:
        self._session = session

    async def among(self, message_ids: Collection[str]) -> dict[str, bool]:
        """
        Return those of these messages that a worker has begun with for good.

        The value tells whether the beats, ends and errors of the message are committed; if not, they follow.
        """
        return dict(await self._session.rows(_READ, {"ids": list(message_ids)}))
