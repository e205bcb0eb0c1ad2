"""What a gateway says of a crawler in heartbeats."""

from typing import Any, Final

from gateway.links.jobs import Jobs
from persistence.schema.ids import ConnectionId

_MAX_LISTED: Final = 1000


class Beats:
    """The heartbeats of one connection. None is said for a crawler that says nothing: it may hang."""

    def __init__(self, connection_id: ConnectionId, jobs: Jobs, capacity: int, interval: float) -> None:
        self.capacity = capacity
        self._connection_id = connection_id
        self._jobs = jobs
        self._interval = interval

    def of_crawler(self, data: dict[str, Any], now: float, *, lists: bool) -> dict[str, Any]:
        """
        Make the beat that passes a crawler's heartbeat on.

        Without *lists* it names no jobs: a list disowns what it does not name, and we may not know all orders.
        """
        beat = self.plain()
        if status := data.get("systemStatus"):
            beat["system_status"] = status
        said = data.get("activeJobs")
        if not lists or said is None:
            return beat
        if isinstance(said, list):
            said = self._jobs.listed(said, now - self._interval)[:_MAX_LISTED]
        return beat | {"active_jobs": said}

    def plain(self) -> dict[str, Any]:
        """Make a beat that says only that the crawler lives, and what its capacity is."""
        return {"connection_id": self._connection_id, "capacity": self.capacity}
