"""
The bounds of a gateway process that concern links, accepts and bytes; each has a code, by which it is counted.

    too_many_links       more links than the process, one peer or strangers may have
    accept_rate          accepting paused, since links came faster than they may
    no_descriptors       accepting paused, since the system had no descriptor or memory left
    handshake_failed     TLS or WebSocket was not agreed on, or not in time
    frame_too_large      a frame was larger than it may be
    malformed            what arrived can be no frame
    half_frame           a frame was begun and not finished in time
    rate                 reading paused, since frames came faster than they may
    slow_consumer        the peer did not read what was sent
    overloaded           the links hold more bytes than they may, this one the most
    not_closed           the peer did not close its end in time
    internal             a fault of ours
"""

import asyncio
import resource
from collections import Counter
from dataclasses import dataclass
from typing import Final, Protocol, Self

from persistence.exceptions import SettingsError
from persistence.settings import Settings

SPARE_DESCRIPTORS: Final = 200
"""For listeners, the database, the broker, logs, and links that are refused."""


@dataclass(frozen=True)
class Limits:
    """How much there may be of each. Times are in seconds, sizes in bytes."""

    links: int
    links_per_peer: int
    strangers: int
    """Links whose crawlers are not known yet."""

    accept_rate: float
    frame_rate: float
    byte_rate: float
    held: int
    """Input and output of all links together."""

    unsent: int = 1024**2
    half_frame: float = 30
    handshake: float = 10
    close: float = 5
    patience: float = 1
    """A stranger that is older than this gives way to a new one where there is no room for both."""

    burst: float = 4
    """How long a peer may send at any rate after a silence, as a time at its greatest rate."""

    backlog: int = 4096

    @classmethod
    def of(cls, settings: Settings, descriptors: int) -> Self:
        """Read them from the settings. Raises SettingsError if the process may have too few descriptors."""
        possible = descriptors - SPARE_DESCRIPTORS
        links = min(possible, settings.gateway_max_links or possible)
        if links < 1:
            raise SettingsError(
                f"the limit of descriptors is {descriptors}, of which {SPARE_DESCRIPTORS} are not for links; raise it "
                "(ulimit -n, LimitNOFILE of systemd, ulimits of Docker)"
            )
        return cls(
            links=links,
            links_per_peer=settings.gateway_max_links_per_peer or max(1, links * 9 // 10),
            strangers=max(1, links // 10),
            accept_rate=settings.gateway_max_accept_rate,
            frame_rate=settings.gateway_max_frame_rate,
            byte_rate=settings.gateway_max_byte_rate,
            held=settings.gateway_max_bytes,
        )


def raise_descriptor_limit() -> int:
    """Raise this process's limit of descriptors to what it may have, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = max(soft, descriptors(hard))
    if soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    return possible


def descriptors(hard: int) -> int:
    """Return the descriptors that we use under a hard limit; without one, a million."""
    return 1024**2 if hard == resource.RLIM_INFINITY else hard


class Bounded(Protocol):
    """A link, as the bounds see it."""

    def stop(self, code: str, message: str) -> None:
        """Give back everything and close, for this reason."""

    def close(self) -> None:
        """Close after what was sent."""


class Admission:
    """Counts links: in all, of each source, and of strangers."""

    def __init__(self, limits: Limits, counters: Counter[str]) -> None:
        self._limits = limits
        self._counters = counters
        self._sources: dict[Bounded, str] = {}
        self._of_source: Counter[str] = Counter()
        self._strangers: dict[Bounded, float] = {}
        """With the times at which they came, oldest first."""
        self._emptied: asyncio.Future[None] | None = None

    @property
    def links(self) -> int:
        """Links that are open, or whose handshake goes on."""
        return len(self._sources)

    @property
    def strangers(self) -> int:
        """Those whose crawlers are not known yet."""
        return len(self._strangers)

    def admit(self, link: Bounded, source: str, now: float) -> bool:
        """
        Count a new link; False if there may be no more.

        Where strangers fill their part, the oldest gives way: a crawler says who it is within milliseconds, and one
        that only holds its link open must not keep others out.
        """
        full = (
            len(self._sources) >= self._limits.links or self._of_source[source] >= self._limits.links_per_peer
        )
        if full or not self._room_for_stranger(now):
            self._counters["too_many_links"] += 1
            return False
        self._sources[link] = source
        self._of_source[source] += 1
        self._strangers[link] = now
        return True

    def _room_for_stranger(self, now: float) -> bool:
        if len(self._strangers) < self._limits.strangers:
            return True
        oldest, since = next(iter(self._strangers.items()))
        if now - since < self._limits.patience:
            return False
        self.know(oldest)
        oldest.stop("too_many_links", "others wait for a link, and this one has not said whose it is")
        return True

    def know(self, link: Bounded) -> None:
        """Note that a link is no stranger any more."""
        self._strangers.pop(link, None)

    def release(self, link: Bounded) -> None:
        """Forget a link that has ended."""
        self._strangers.pop(link, None)
        source = self._sources.pop(link, None)
        if source is not None:
            self._of_source[source] -= 1
            if not self._of_source[source]:
                del self._of_source[source]
        if not self._sources and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def all(self) -> list[Bounded]:
        """Return all links."""
        return list(self._sources)

    async def empty(self) -> None:
        """Wait until no link is open."""
        if self._sources:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied


class HeldBytes:
    """The one account of bytes: what is held for all links together. Beyond the limit the largest is stopped."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[Bounded, int] = {}
        self.total = 0

    def hold(self, link: Bounded, size: int) -> None:
        """Note how much a link holds now."""
        self.total += size - self._held.pop(link, 0)
        if size:
            self._held[link] = size
        while self.total > self._limit and self._held:
            largest = max(self._held, key=self._held.__getitem__)
            self.total -= self._held.pop(largest)
            largest.stop("overloaded", "the gateway is short of memory, and this link holds the most of it")


class Pace:
    """Lets things happen at a rate, and in bursts after a silence. Times are those of the event loop."""

    __slots__ = ("_burst", "_paid_until")

    def __init__(self, burst: float) -> None:
        self._burst = burst
        self._paid_until = 0.0

    def take(self, cost: float, now: float) -> float:
        """Take something that is worth *cost* seconds; returns for how long nothing more may be taken, mostly 0."""
        self._paid_until = max(self._paid_until, now) + cost
        return max(0.0, self._paid_until - now - self._burst)
