"""
Crawlers that speak protocol 1 with Crawlyard's own gateways, as a process of its own.

Their sessions are in a file: started again, they go on with their jobs, unless the file was deleted.

Beside the orders of every fleet it executes `secret SECRET`: the next links use it.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from console.simulator.counters import FleetCounts
from console.simulator.protocol_1 import Protocol1Sessions
from proofs.chaos.accounting.journal import Journal
from proofs.chaos.scale import HEARTBEAT_S, LONGEST_RETRY_S, SESSIONS
from proofs.chaos.system.controlled_fleet import ControlledFleet, options_of


class LinkedFleet(ControlledFleet):
    """Crawlers with links of their own; each answer of a gateway is recorded as a sign of life that got through."""

    def __init__(
        self, seed: str, own_seed: str, addresses: list[str], journal: Journal, orders: Path
    ) -> None:
        self._addresses = addresses
        self._own_seed = own_seed
        self._answers = journal
        self._orders_file = orders
        self._sessions_file = orders.with_name(SESSIONS)
        self._remembered: dict[str, tuple[str, int]] = {}
        if self._sessions_file.exists():
            self._remembered = {
                name: (token, n) for name, (token, n) in json.loads(self._sessions_file.read_text()).items()
            }
        self._written = ""
        super().__init__(options_of(seed, own_seed), self._open, journal, orders)

    def _open(self, counts: FleetCounts) -> Protocol1Sessions:
        self._linked = Protocol1Sessions(
            self._addresses,
            counts,
            _secret(self._orders_file),
            self._own_seed,
            remembered=self._remembered,
            longest_retry_seconds=LONGEST_RETRY_S,
            ping_seconds=HEARTBEAT_S,
            on_pong=lambda connection_id: self._answers.write("answered", ids=[connection_id]),
        )
        return self._linked

    def _step(self) -> None:
        super()._step()
        if (text := json.dumps(self._remembered)) != self._written:
            new = self._sessions_file.with_suffix(".new")
            new.write_text(text)
            new.replace(self._sessions_file)
            self._written = text

    def handle(self, what: str, value: str) -> None:
        """Take another secret, if that is what is ordered."""
        if what == "secret":
            self._linked.secret = value


def _secret(orders: Path) -> str:
    """The secret that is valid now: the last one that was ordered."""
    lines = (line.split() for line in orders.read_text().splitlines())
    return [value for what, *values in lines if what == "secret" for value in values][-1]


def main(name: str, seed: str, folder: str, *addresses: str) -> None:
    """Run until SIGTERM."""
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    journal = Journal(Path(folder) / f"{name}.journal")
    journal.write("started")
    orders = Path(folder) / f"{name}.orders"
    with LinkedFleet(seed, f"{seed} {name} {os.getpid()}", list(addresses), journal, orders) as fleet:
        while not done.wait(0.2):
            fleet.check()


if __name__ == "__main__":
    main(*sys.argv[1:])
