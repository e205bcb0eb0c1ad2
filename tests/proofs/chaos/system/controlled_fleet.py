"""
A fleet that records its work and executes orders, for a process that can be killed and frozen.

The orders are lines that are appended to a file: `die DRAW`, `freeze DRAW` and `leave DRAW` hit one of the busy
crawlers, `report` writes its state to the journal. A fleet may know more.
"""

import random
from collections.abc import Callable
from pathlib import Path

from console.simulator.counters import FleetCounts
from console.simulator.crawler import Crawler, CrawlerState
from console.simulator.fleet import Fleet, FleetOptions
from console.simulator.sessions import Sessions
from proofs.chaos.accounting.journal import Journal
from proofs.chaos.scale import CAPACITY, CRAWLERS, PAGES, WORK_S, group_tree_of


def options_of(seed: str, own_seed: str) -> FleetOptions:
    """The options of a fleet; a process that is started again makes other choices than before."""
    return FleetOptions(
        crawlers=CRAWLERS,
        seed=random.Random(own_seed).randrange(1_000_000),
        capacity=CAPACITY,
        work_seconds=WORK_S,
        pages=PAGES,
        found=group_tree_of(int(seed)).found,
    )


class ControlledFleet(Fleet):
    """A fleet that records its work and executes orders."""

    unheard = 0
    """Attempts to publish that failed."""

    def __init__(
        self,
        options: FleetOptions,
        open_sessions: Callable[[FleetCounts], Sessions],
        journal: Journal,
        orders: Path,
    ) -> None:
        super().__init__(options, open_sessions)
        self._journal = journal
        self._orders = orders.open()
        self._at_work: set[str] = set()
        self._pending: list[tuple[str, float]] = []
        self._stale = 0
        self._actions = {"die": Crawler.die, "freeze": Crawler.freeze, "leave": Crawler.disconnect}

    @property
    def is_busy(self) -> bool:
        """True if it still has something to send."""
        return self.has_pending_work

    def handle(self, what: str, value: str) -> None:
        """Execute an order that only this fleet knows."""

    def _step(self) -> None:
        super()._step()
        self._record_work()
        if line := self._orders.readline():
            self._handle_command(*line.split())
        self._pending = [
            (what, draw) for what, draw in self._pending if not self._apply_to_busy_crawler(what, draw)
        ]

    def _record_work(self) -> None:
        """Record which attempts were taken up or dropped since the last step."""
        at_work = {fence for crawler in self.crawlers for fence in crawler.fences()}
        if taken := at_work - self._at_work:
            self._journal.write("took", fences=sorted(taken))
        if gone := self._at_work - at_work:
            self._journal.write("let go", fences=sorted(gone))
        self._at_work = at_work
        if stale := self.counts.stale_fences[self._stale :]:
            self._journal.write("stale", fences=stale)
            self._stale += len(stale)

    def _handle_command(self, what: str, value: str = "0") -> None:
        if what == "report":
            self._journal.write(
                "reported", busy=self.is_busy, unheard=self.unheard, repeated=self.counts.repeated
            )
        elif what in self._actions:
            self._pending.append((what, float(value)))
        else:
            self.handle(what, value)

    def _apply_to_busy_crawler(self, what: str, draw: float) -> bool:
        """Apply an action to a busy crawler, if there is one; replace a crawler that is gone."""
        busy = [c for c in self.crawlers if c.state is CrawlerState.AT_WORK and c.is_connected and c.fences()]
        if not busy:
            return False
        crawler = busy[int(draw * len(busy))]
        self._journal.write("count", what=f"crawlers: {what}")
        self._actions[what](crawler)
        if what != "freeze":
            self._record_work()
            self.crawlers.remove(crawler)
            self.add_crawler()
        return True
