"""How many queries a gateway sends: a bound that holds whatever the number of its links."""

import asyncio
from collections.abc import Callable
from time import monotonic

QUERIES_PER_SECOND = 50.0
BURST = 6
"""So many may follow each other at once, after as many that were not sent."""


class Pace:
    """Lets callers pass one by one, at most so many a second."""

    def __init__(
        self, rate: float = QUERIES_PER_SECOND, burst: int = BURST, clock: Callable[[], float] = monotonic
    ) -> None:
        self._interval = 1 / rate
        self._lead = (burst + 0.5) * self._interval  # a half, lest rounding decides
        self._clock = clock
        self._next = 0.0
        """When the next one would pass if all of them were evenly spread."""

    @property
    def is_used_up(self) -> bool:
        """True if the next one would have to wait."""
        return self._next + self._interval > self._clock()

    async def wait(self) -> None:
        """Wait until one more may pass."""
        if (delay := self.take()) > 0:
            await asyncio.sleep(delay)

    def take(self) -> float:
        """Let one pass, after the delay that is returned; 0 or less: now."""
        now = self._clock()
        self._next = max(self._next, now - self._lead) + self._interval
        return self._next - now
