"""Which attempts are a connection's."""

from collections.abc import Collection
from dataclasses import dataclass

from persistence.orders.hand_over import Fence
from persistence.orders.session import OrderSession

_READ = """
    SELECT connection_id, crawler_job_id, completed_at IS NULL FROM job_assignment_mapping
     WHERE crawler_job_id = ANY (%(fences)s)
"""


@dataclass(frozen=True, slots=True)
class OwnAttempts:
    """Some attempts of one connection; those of others are in neither set."""

    live: frozenset[str]
    closed: frozenset[str]


class AttemptRows:
    """The table `job_assignment_mapping`, as a gateway asks for it."""

    def __init__(self, session: OrderSession) -> None:
        self._session = session

    async def are_live(self, fences: Collection[Fence]) -> dict[Fence, bool]:
        """Tell which of these attempts are live; one that is not on its connection, or not there, is left out."""
        rows = await self._session.rows(_READ, {"fences": [fence for _, fence in fences]})
        found = {(connection_id, fence): is_live for connection_id, fence, is_live in rows}
        return {fence: found[fence] for fence in fences if fence in found}
