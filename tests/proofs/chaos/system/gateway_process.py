"""
A gateway and its crawlers as a process of its own, which can be killed and frozen.

It executes lines that are appended to a file: `die DRAW`, `freeze DRAW` and `leave DRAW` hit one of the busy
crawlers, `reliable` stops confusing messages, and `report` writes its state to the journal.
"""

import os
import random
import signal
import sys
import threading
from pathlib import Path

from console.simulator.counters import FleetCounts
from console.simulator.crawler import Crawler, CrawlerState
from console.simulator.fleet import Fleet, FleetOptions
from proofs.chaos.accounting.journal import Journal
from proofs.chaos.scale import CAPACITY, CRAWLERS, FLUSH_S, HEARTBEAT_S, PAGES, WORK_S, group_tree_of
from proofs.chaos.system.producer import UnreliablePublisher
from support.own_gateway.sessions import OwnSessions, own_gateway


class ControlledFleet(Fleet):
    """A fleet that records its work and executes orders."""

    def __init__(
        self,
        options: FleetOptions,
        publisher: UnreliablePublisher,
        database_url: str,
        journal: Journal,
        orders: Path,
    ) -> None:
        self._publisher = publisher
        self._open_sessions = own_gateway(publisher, database_url, HEARTBEAT_S, FLUSH_S)
        super().__init__(options, self._open_gateway)
        self._journal = journal
        self._orders = orders.open()
        self._at_work: set[str] = set()
        self._pending: list[tuple[str, float]] = []
        self._stale = 0
        self._actions = {
            "die": Crawler.die,
            "freeze": Crawler.freeze,
            "leave": Crawler.disconnect,
        }

    def _open_gateway(self, counts: FleetCounts) -> OwnSessions:
        self._own = self._open_sessions(counts)
        return self._own

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

    def _handle_command(self, what: str, draw: str = "0") -> None:
        if what == "reliable":
            self._publisher.share = 0.0
        elif what == "report":
            busy = self.has_pending_work or self._publisher.pending > 0
            self._journal.write(
                "reported", busy=busy, unheard=self._own.gateway.unheard, repeated=self.counts.repeated
            )
        else:
            self._pending.append((what, float(draw)))

    def _apply_to_busy_crawler(self, what: str, draw: float) -> bool:
        """Apply an action to a busy crawler, if there is one; replace a crawler that is gone."""
        busy = [c for c in self.crawlers if c.state is CrawlerState.AT_WORK and c.fences()]
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


def main(name: str, seed: str, share: str, folder: str) -> None:
    """Run until SIGTERM."""
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    journal = Journal(Path(folder) / f"{name}.journal")
    journal.write("started")
    # A gateway that is started again makes other choices than before.
    own_seed = f"{seed} {name} {os.getpid()}"
    publisher = UnreliablePublisher(os.environ["BROKER_URL"], own_seed, float(share), journal)
    options = FleetOptions(
        crawlers=CRAWLERS,
        seed=random.Random(own_seed).randrange(1_000_000),
        capacity=CAPACITY,
        work_seconds=WORK_S,
        pages=PAGES,
        found=group_tree_of(int(seed)).found,
    )
    with (
        publisher,
        ControlledFleet(
            options, publisher, os.environ["DATABASE_URL"], journal, Path(folder) / f"{name}.orders"
        ) as fleet,
    ):
        while not done.wait(0.2):
            fleet.check()
            publisher.check()


if __name__ == "__main__":
    main(*sys.argv[1:])
