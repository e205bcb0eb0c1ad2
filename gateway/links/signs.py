"""
Signs of life: the heartbeats that are said of a crawler, and the pings that it answers.

What arrives shows only one direction of a link. Where the other one is cut, orders never arrive, and the crawler would
pass for alive. So the peer is asked from time to time, whatever it sends meanwhile.
"""

import secrets
from typing import Any, Final

from gateway.links.jobs import Jobs
from persistence.schema.ids import ConnectionId

EVERY_S: Final = 30.0
PATIENCE_S: Final = 15.0

_MAX_LISTED: Final = 1000

LATELY_S: Final = 5.0
"""A heartbeat that came this long before an end may be applied after it."""


class Beats:
    """The heartbeats of one connection. None is said for a crawler that says nothing: it may hang."""

    def __init__(self, connection_id: ConnectionId, jobs: Jobs, capacity: int, interval: float) -> None:
        self.capacity = capacity
        self._connection_id = connection_id
        self._jobs = jobs
        self._interval = interval
        self._list: list[str] = []
        """The latest list of the crawler."""
        self._listed_at = 0.0

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
            self._list, self._listed_at = said, now
            said = self._jobs.listed(said, now - self._interval)[:_MAX_LISTED]
        return beat | {"active_jobs": said}

    def names_lately(self, job_id: str, now: float) -> bool:
        """True if a heartbeat that has just been passed on lists this job."""
        return now - self._listed_at < LATELY_S and job_id in self._list

    def without(self, job_id: str, now: float) -> dict[str, Any]:
        """
        Make the beat that repeats the latest list without a job that has ended.

        The two may be applied in either order, and a job that is listed takes a slot until the next heartbeat.
        """
        self._list = [listed for listed in self._list if listed != job_id]
        return self.plain() | {
            "active_jobs": self._jobs.listed(self._list, now - self._interval)[:_MAX_LISTED]
        }

    def plain(self) -> dict[str, Any]:
        """Make a beat that says only that the crawler lives, and what its capacity is."""
        return {"connection_id": self._connection_id, "capacity": self.capacity}


class Pings:
    """The pings of one link."""

    def __init__(self, now: float) -> None:
        self._proven_at = now
        self._asked_at: float | None = None
        self._nonce = ""

    def due(self, now: float, *, soon: bool = False) -> str | None:
        """Return the nonce of a ping that is to be sent now; None if none is."""
        if self._asked_at is not None or (now - self._proven_at < EVERY_S and not soon):
            return None
        self._asked_at = now
        self._nonce = secrets.token_hex(8)
        return self._nonce

    def answered(self, nonce: object, now: float) -> None:
        """Take a pong with a nonce."""
        if nonce == self._nonce:
            self.answer(now)

    def answer(self, now: float) -> None:
        """Take an answer."""
        if self._asked_at is not None:
            self._asked_at = None
            self._proven_at = now

    def is_overdue(self, now: float) -> bool:
        """True if a ping was not answered in time."""
        return self._asked_at is not None and now - self._asked_at > PATIENCE_S

    def excuse(self, seconds: float) -> None:
        """Give the peer more time: we did not read meanwhile."""
        if self._asked_at is not None:
            self._asked_at += seconds
