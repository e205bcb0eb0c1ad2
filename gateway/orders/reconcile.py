"""Which links are compared with the database next: a slice each second, or all of them one after the other."""

from collections import deque
from collections.abc import Callable, Collection
from math import ceil

from persistence.schema.ids import ConnectionId

SLICES = 60
"""In so many seconds each link is compared once."""

SLICE_S = 1.0

MOST_AT_ONCE = 500


class Rotation:
    """Goes round the links, or through all of them at once."""

    def __init__(self, connections: Callable[[], Collection[ConnectionId]]) -> None:
        self._connections = connections
        self._asked: deque[ConnectionId] = deque()
        self._all: deque[ConnectionId] = deque()
        self._round: deque[ConnectionId] = deque()
        self._due = 0.0
        self.is_resyncing = False
        """True until all links that there were have been compared."""

    @property
    def has_more(self) -> bool:
        """True if `next` has links to compare at once."""
        return bool(self._asked or self._all)

    def ask_for(self, connection_id: ConnectionId) -> None:
        """Compare this one before all others."""
        self._asked.append(connection_id)

    def resync(self) -> None:
        """Compare all links, from the beginning."""
        self._all = deque(self._connections())
        self.is_resyncing = True

    def next(self, now: float) -> list[ConnectionId]:
        """
        Return the links to compare now: those asked for, with some of a resync or, once a second, a slice; often none.

        `compared` or `put_back` must follow.
        """
        ids = self._take(self._asked, MOST_AT_ONCE)
        if self._all:
            self._due = now + SLICE_S
            return ids + self._take(self._all, MOST_AT_ONCE)
        if now >= self._due:
            self._due = now + SLICE_S
            if not self._round:
                self._round.extend(self._connections())
            ids += self._take(self._round, min(ceil(len(self._connections()) / SLICES), MOST_AT_ONCE))
        return ids

    def compared(self) -> None:
        """Note that the links that were returned last have been compared."""
        self.is_resyncing = self.is_resyncing and bool(self._all)

    def put_back(self, ids: list[ConnectionId]) -> None:
        """Return these again before others: the database did not answer."""
        self._asked.extendleft(reversed(ids))

    def _take(self, waiting: deque[ConnectionId], most: int) -> list[ConnectionId]:
        there = self._connections()
        taken: list[ConnectionId] = []
        while waiting and len(taken) < most:
            if (id_ := waiting.popleft()) in there:
                taken.append(id_)
        return taken
