"""
A simulated fleet: crawlers behind a gateway, all in one loop of one thread.

Used by the demo, the tests and the benchmarks. What befalls whom and how jobs end follows from the
seed, as far as timing allows.
"""

import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from console.simulator.background import Background
from console.simulator.counters import FleetCounts
from console.simulator.crawler import Crawler, CrawlerState, FleetContext, Script
from console.simulator.gateway import FLUSH_SECONDS, Gateway, Publisher
from console.simulator.gitlab import GitLab
from console.simulator.mishaps import OutcomePolicy

_TURN_SECONDS = 0.01


@dataclass(frozen=True)
class Incident:
    """Befalls the first busy crawler, once the fleet has brought so many attempts to an end."""

    after: int
    apply: Callable[[Crawler], None]


@dataclass(frozen=True)
class FleetOptions:
    """How large a fleet is, how it works, and what befalls it."""

    crawlers: int
    seed: int
    capacity: int = 5
    work_seconds: float = 1.0
    """The mean of one job."""
    pages: int = 3
    """Progress frames of one job."""
    heartbeat_seconds: float = 30.0
    flush_seconds: float = FLUSH_SECONDS
    """Words wait so long for company."""
    incidents: tuple[Incident, ...] = field(default=())
    found: Sequence[Mapping[str, str]] = ()
    """What there is to discover, as jobs_discovered says it."""
    gitlab: GitLab | None = None
    """The one whose tokens may die; all others accept any."""


def demo_incidents(crawlers: int, jobs: int) -> tuple[Incident, ...]:
    """One freezes and comes back; some die and one says goodbye, where enough others are there."""
    deaths = max(crawlers // 6, 1) if crawlers > 3 else 0  # noqa: PLR2004
    incidents = [Incident(jobs // 10, Crawler.freeze)]
    incidents += [Incident(jobs * (3 + n) // (6 + deaths), Crawler.die) for n in range(deaths)]
    if crawlers > 2:  # noqa: PLR2004
        incidents.append(Incident(jobs * 2 // 5, Crawler.disconnect))
    return tuple(sorted(incidents, key=lambda incident: incident.after))


class Fleet(Background):
    """Runs from `__enter__` to `__exit__`. What went wrong in its thread is raised by `check`."""

    def __init__(self, options: FleetOptions, publisher: Publisher, database_url: str) -> None:
        super().__init__("fleet")
        self.counts = FleetCounts()
        self._gateway = Gateway(
            publisher, database_url, options.heartbeat_seconds, self.counts, options.flush_seconds
        )
        self._timetable: list[tuple[float, int, Script]] = []
        self._number = count()
        self._names = count(1)
        self._options = options
        self._context = FleetContext(
            self._gateway,
            OutcomePolicy(options.seed),
            self.counts,
            self._begin,
            options.work_seconds,
            options.pages,
            options.found,
            options.gitlab,
        )
        self.crawlers: list[Crawler] = []
        for _ in range(options.crawlers):
            self.add_crawler()
        self._incidents = deque(options.incidents)
        chance = random.Random(f"{options.seed} incidents")  # noqa: S311 - a simulation
        self._candidates = chance.sample(self.crawlers, k=len(self.crawlers))

    @property
    def has_pending_work(self) -> bool:
        """Whether a frozen crawler has yet to speak, or words have yet to be sent."""
        return self._gateway.unsent > 0 or self.counts.came_back < self.counts.froze

    @property
    def connected(self) -> int:
        """How many crawlers have an open connection, as far as the gateway knows."""
        return sum(
            crawler.link.is_open and crawler.state in (CrawlerState.AT_WORK, CrawlerState.FROZEN)
            for crawler in self.crawlers
        )

    def add_crawler(self) -> None:
        """One more crawler comes to work; called before the fleet runs, or from its own thread."""
        n = next(self._names)
        seed = f"{self._options.seed} crawler {n}"
        self.crawlers.append(Crawler(self._context, f"crawler-{n:02}", seed, self._options.capacity))

    def _run_loop(self) -> None:
        try:
            while not self._stop.wait(_TURN_SECONDS):
                self._step()
        finally:
            self._gateway.close()

    def _step(self) -> None:
        self._gateway.step()
        now = time.monotonic()
        while self._timetable and self._timetable[0][0] <= now:
            due, _, script = heapq.heappop(self._timetable)
            self._go_on(script, due)
        self._run_incidents()

    def _begin(self, script: Script) -> None:
        self._go_on(script, time.monotonic())

    def _go_on(self, script: Script, now: float) -> None:
        """Run a script up to its next wait, counted from when it was due: a busy loop works off, and never drifts."""
        pause = next(script, None)
        if pause is not None:
            heapq.heappush(self._timetable, (now + pause, next(self._number), script))

    def _run_incidents(self) -> None:
        while self._incidents and self.counts.ended >= self._incidents[0].after:
            busy = [c for c in self._candidates if c.state is CrawlerState.AT_WORK and c.fences()]
            if not busy:
                return
            self._candidates.remove(busy[0])
            self._incidents.popleft().apply(busy[0])
