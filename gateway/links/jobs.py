"""What a gateway knows of the attempts of one connection. Orders themselves are not kept: they hold tokens."""

from collections.abc import Iterable
from typing import Any, Final

from persistence.orders.hand_over import Order

DISCOVERERS: Final = frozenset(("GROUP_PROJECT_DISCOVERY", "groupProjects", "groupSubgroups", "users"))
"""The commands of jobs that may discover."""

_REMEMBERED: Final = 256


class Jobs:
    """The attempts of a connection: those that were handed over and live, and the last ones that ended."""

    def __init__(self) -> None:
        self.live: dict[str, float] = {}
        """When each was handed over, the oldest first."""
        self._discoverers: set[str] = set()
        self._reported: dict[str, str] = {}
        """The ends that the crawler has sent itself: attempt and kind of frame. The oldest are forgotten."""
        self._ended: dict[str, str | None] = {}
        """With the end that the crawler has sent, or None if it was revoked."""

    def __contains__(self, job_id: str | None) -> bool:
        """True if it is, or was a short time ago, an attempt of this connection."""
        return job_id in self.live or job_id in self._ended

    @property
    def may_discover(self) -> bool:
        """True if a discovery may come."""
        return bool(self._discoverers)

    def hand_over(self, orders: Iterable[Order], now: float) -> list[Order]:
        """Note orders as handed over, and return those that were not before."""
        new = [order for order in orders if order.crawler_job_id not in self.live]
        for order in new:
            self.live[order.crawler_job_id] = now
            if order.command in DISCOVERERS:
                self._discoverers.add(order.crawler_job_id)
        return new

    def report_end(self, job_id: str, kind: str) -> None:
        """Note that the crawler has ended an attempt itself."""
        _remember(self._reported, job_id, kind)

    def end(self, job_id: str) -> bool:
        """Note that an attempt is closed. Returns true if its crawler does not know that yet."""
        if self.live.pop(job_id, None) is None:
            return False
        self._discoverers.discard(job_id)
        reported = self._reported.pop(job_id, None)
        _remember(self._ended, job_id, reported)
        return reported is None

    def replace(self, orders: Iterable[Order], now: float) -> None:
        """Take these as all live ones, as read from the database; the others are closed."""
        orders = list(orders)
        for job_id in self.live.keys() - {order.crawler_job_id for order in orders}:
            self.end(job_id)
        self.hand_over(orders, now)

    def listed(self, said: Iterable[str], since: float) -> list[str]:
        """
        Return what a crawler that says this list works on: what it names and was given, and what was handed over after
        *since*, which it may not have seen when it made the list. What it has ended itself takes no slot any more, even
        if it names it since it does not know that this was handled.
        """
        named = {job_id for job_id in said if job_id in self and not self._ended.get(job_id)}
        new = {id_ for id_, at in self.live.items() if at >= since and id_ not in self._reported}
        return [*named, *sorted(new - named)]


def _remember(memory: dict[str, Any], key: str, value: str | None) -> None:
    memory[key] = value
    if len(memory) > _REMEMBERED:
        del memory[next(iter(memory))]
