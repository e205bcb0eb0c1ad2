"""When half frames must be whole: one timer for all links, since a timer a read would cost more than the read."""

import asyncio
from typing import Protocol


class Late(Protocol):
    """What can be late."""

    def half_frame(self) -> None:
        """End, since the rest has not come in time."""


class Deadlines:
    """All deadlines are equally far away when they begin, so that the first to begin is the first to pass."""

    def __init__(self) -> None:
        self._at: dict[Late, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __contains__(self, link: Late) -> bool:
        return link in self._at

    def begin(self, link: Late, at: float) -> None:
        """Set the deadline of a link, or set it anew, by the event loop's clock."""
        self._at.pop(link, None)
        self._at[link] = at
        if self._timer is None:
            self._wait(at)

    def end(self, link: Late) -> None:
        """Forget the deadline of a link, if it has one."""
        self._at.pop(link, None)

    def _wait(self, at: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(at, self._look)

    def _look(self) -> None:
        """End what is late, and wait for the next."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        for link in [link for link, at in self._at.items() if at <= now]:
            self.end(link)
            link.half_frame()
        if self._at and self._timer is None:
            self._wait(next(iter(self._at.values())))
