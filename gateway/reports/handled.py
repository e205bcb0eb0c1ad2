"""Which messages the workers have handled."""

from collections.abc import Sequence
from typing import Protocol


class HandledMessages(Protocol):
    """The ids of handled messages; persistence/orders/handled.py reads them from Postgres."""

    async def handled(self, ids: Sequence[str]) -> set[str]:
        """
        Return those of the messages that were applied or rejected.

        Raises a TransientError if Postgres does not answer.
        """
