"""
A gateway as a user might write it, and its crawlers, as a process of its own.

Beside the orders of every fleet it executes `reliable`: it stops confusing messages.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from console.simulator.counters import FleetCounts
from console.simulator.fleet import FleetOptions
from proofs.chaos.accounting.journal import Journal
from proofs.chaos.scale import FLUSH_S, HEARTBEAT_S
from proofs.chaos.system.controlled_fleet import ControlledFleet, options_of
from proofs.chaos.system.producer import UnreliablePublisher
from support.own_gateway.sessions import OwnSessions, own_gateway


class OwnFleet(ControlledFleet):
    """Crawlers behind a gateway whose messages are confused."""

    def __init__(
        self, options: FleetOptions, publisher: UnreliablePublisher, journal: Journal, orders: Path
    ) -> None:
        self._publisher = publisher
        super().__init__(options, self._open, journal, orders)

    def _open(self, counts: FleetCounts) -> OwnSessions:
        self._own = own_gateway(self._publisher, os.environ["DATABASE_URL"], HEARTBEAT_S, FLUSH_S)(counts)
        return self._own

    @property
    def is_busy(self) -> bool:
        """True if it still has something to send."""
        return super().is_busy or self._publisher.pending > 0

    @property
    def unheard(self) -> int:  # type: ignore[override]
        """Attempts to publish that failed."""
        return self._own.gateway.unheard

    def handle(self, what: str, value: str) -> None:
        """Stop confusing messages, if that is what is ordered."""
        if what == "reliable":
            self._publisher.share = 0.0


def main(name: str, seed: str, share: str, folder: str) -> None:
    """Run until SIGTERM."""
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    journal = Journal(Path(folder) / f"{name}.journal")
    journal.write("started")
    own_seed = f"{seed} {name} {os.getpid()}"
    publisher = UnreliablePublisher(os.environ["BROKER_URL"], own_seed, float(share), journal)
    options, orders = options_of(seed, own_seed), Path(folder) / f"{name}.orders"
    with publisher, OwnFleet(options, publisher, journal, orders) as fleet:
        while not done.wait(0.2):
            fleet.check()
            publisher.check()


if __name__ == "__main__":
    main(*sys.argv[1:])
