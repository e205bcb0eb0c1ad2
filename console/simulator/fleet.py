"""
A simulated fleet: crawlers and their sessions with gateways, all in one loop in one thread.

The demo, the tests and the benchmarks use it. The seed determines which crawlers have incidents and how jobs
end, as far as timing allows.
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
from console.simulator.gitlab import GitLab
from console.simulator.mishaps import OutcomePolicy
from console.simulator.sessions import Sessions

_STEP_SECONDS = 0.01


@dataclass(frozen=True)
class Incident:
    """Happens to the first busy crawler once the fleet has ended *after* attempts."""

    after: int
    apply: Callable[[Crawler], None]


@dataclass(frozen=True)
class FleetOptions:
    """The size of a fleet, how it works, and its incidents."""

    crawlers: int
    seed: int
    capacity: int = 5
    work_seconds: float = 1.0
    """The mean duration of a job."""
    pages: int = 3
    """Progress frames per job."""
    incidents: tuple[Incident, ...] = field(default=())
    found: Sequence[Mapping[str, str]] = ()
    """What a discovery finds, as items of jobs_discovered."""
    gitlab: GitLab | None = None
    """The instance whose tokens may expire; all others accept any token."""


def demo_incidents(crawlers: int, jobs: int) -> tuple[Incident, ...]:
    """One crawler freezes and comes back; if there are enough others, some die and one disconnects."""
    deaths = max(crawlers // 6, 1) if crawlers > 3 else 0  # noqa: PLR2004
    incidents = [Incident(jobs // 10, Crawler.freeze)]
    incidents += [Incident(jobs * (3 + n) // (6 + deaths), Crawler.die) for n in range(deaths)]
    if crawlers > 2:  # noqa: PLR2004
        incidents.append(Incident(jobs * 2 // 5, Crawler.disconnect))
    return tuple(sorted(incidents, key=lambda incident: incident.after))


class Fleet(Background):
    """Runs from `__enter__` to `__exit__`; `check` raises the exception of its thread."""

    def __init__(self, options: FleetOptions, open_sessions: Callable[[FleetCounts], Sessions]) -> None:
        super().__init__("fleet")
        self.counts = FleetCounts()
        self._sessions = open_sessions(self.counts)
        self._timetable: list[tuple[float, int, Script]] = []
        self._number = count()
        self._names = count(1)
        self._options = options
        self._context = FleetContext(
            self._sessions,
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
        """True if frames are not answered yet, or a frozen crawler has not come back yet."""
        return self._sessions.unsent > 0 or self.counts.came_back < self.counts.froze

    @property
    def connected(self) -> int:
        """The number of crawlers that are connected, as far as they know."""
        return sum(
            crawler.is_connected and crawler.state in (CrawlerState.AT_WORK, CrawlerState.FROZEN)
            for crawler in self.crawlers
        )

    def add_crawler(self) -> None:
        """Add a crawler; call this before the fleet runs, or in its thread."""
        n = next(self._names)
        seed = f"{self._options.seed} crawler {n}"
        self.crawlers.append(Crawler(self._context, f"crawler-{n:02}", seed, self._options.capacity))

    def _run_loop(self) -> None:
        try:
            while not self._stop.is_set():
                self._step()
        finally:
            self._sessions.close()

    def _step(self) -> None:
        self._sessions.step(_STEP_SECONDS)
        now = time.monotonic()
        while self._timetable and self._timetable[0][0] <= now:
            due, _, script = heapq.heappop(self._timetable)
            self._go_on(script, due)
        self._run_incidents()

    def _begin(self, script: Script) -> None:
        self._go_on(script, time.monotonic())

    def _go_on(self, script: Script, now: float) -> None:
        """Run a script to its next wait, which is counted from when this step was due: a busy loop does not drift."""
        pause = next(script, None)
        if pause is not None:
            heapq.heappush(self._timetable, (now + pause, next(self._number), script))

    def _run_incidents(self) -> None:
        while self._incidents and self.counts.ended >= self._incidents[0].after:
            busy = [
                c
                for c in self._candidates
                if c.state is CrawlerState.AT_WORK and c.is_connected and c.fences()
            ]
            if not busy:
                return
            self._candidates.remove(busy[0])
            self._incidents.popleft().apply(busy[0])
