"""
Drives whole lives of jobs through messages only, as a web app and a gateway do.

A life is what a job goes through from its order to its completion. The frames of one attempt are never in one
batch: the next frame is sent when the message with the last one has been handled. The number of waiting jobs
stays constant.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from benchmarks.harness.bed import PATIENCE_S, Bed
from benchmarks.harness.world import completed, orders, progressed, started

BATCH = 500
"""Orders, or frames, per message."""

PHASES: tuple[Callable[[str, str], dict[str, Any]], ...] = (started, progressed, completed)

GATEWAYS = 4
"""Each has its share of the connections, and sends their frames together."""

_NEW_ORDERS = """
    SELECT crawler_job_id, connection_id FROM crawler_order
     WHERE connection_id = ANY (%s) AND crawler_job_id > %s
"""

_HANDLED = "SELECT message_id FROM handled_message WHERE message_id = ANY (%s)"

LOOK_S = 0.2
"""Between two reads of the orders: about the time between two rounds, after which a gateway is notified."""

_PAUSE_S = 0.01
"""Pause while there is nothing to send: the polling itself slows down what is measured."""

_OVERLAP = 8
"""Leading characters of a ULID that are equal within about a second: each read overlaps the last one by that much."""

Order = tuple[str, str]
"""A crawler_job_id and its connection."""


@dataclass
class Drive:
    """One run: keeps *depth* jobs waiting, and completes every order."""

    bed: Bed
    accounts: list[str]
    connections: list[str]
    depth: int
    first: int = 0
    """The number of the first project, if a former run has created some."""
    in_flight: int = 8
    """Maximum number of unhandled messages with orders, and with frames."""
    submitted: int = field(default=0, init=False)
    ended: int = field(default=0, init=False)
    _next_look: float = field(default=0.0, init=False)
    _known: set[str] = field(default_factory=set, init=False)
    _newest: str = field(default="0" * 26, init=False)
    _unsent: dict[tuple[int, int], deque[Order]] = field(default_factory=dict, init=False)
    """By phase and gateway."""
    _sent: dict[str, tuple[int, list[Order]]] = field(default_factory=dict, init=False)
    _ordered: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._gateway = {id_: n % GATEWAYS for n, id_ in enumerate(self.connections)}
        self._unsent = {(p, g): deque() for p in reversed(range(len(PHASES))) for g in range(GATEWAYS)}
        self._orders = orders(self.accounts, self.first)

    def run(self, lives: int) -> float:
        """Drive until *lives* more have ended, and return the seconds."""
        goal = self.ended + lives
        begun = time.monotonic()
        while self.ended < goal:
            if time.monotonic() - begun > PATIENCE_S:
                raise TimeoutError(f"{self.ended} lives of {goal} in {PATIENCE_S:.0f} s")
            if not (self._collect() + self._submit() + self._look() + self._send()):
                time.sleep(_PAUSE_S)
        return time.monotonic() - begun

    def fill(self) -> None:
        """Submit until *depth* jobs wait, and wait until they do."""
        while self.submitted - len(self._known) < self.depth or self._ordered:
            self._collect()
            self._submit()
            time.sleep(_PAUSE_S)

    def drain(self) -> None:
        """Submit no more, and drive until every life has ended."""
        self.depth = 0
        self.run(self.submitted - self.ended)

    def _collect(self) -> int:
        """Find the messages that were handled, and move their jobs to the next phase."""
        asked = [*self._sent, *self._ordered]
        handled = {id_ for (id_,) in self.bed.rows(_HANDLED, asked)} if asked else set()
        self._ordered -= handled
        for id_ in handled & self._sent.keys():
            phase, batch = self._sent.pop(id_)
            if phase + 1 < len(PHASES):
                self._schedule(phase + 1, batch)
            else:
                self.ended += len(batch)
        return len(handled)

    def _submit(self) -> int:
        sent = 0
        while self.submitted - len(self._known) < self.depth and len(self._ordered) < self.in_flight:
            self._order()
            sent += 1
        return sent

    def _order(self) -> None:
        batch = list(islice(self._orders, BATCH))
        self._ordered.add(self.bed.publisher.publish("jobs.submit", orders=batch))
        self.submitted += len(batch)

    def _look(self) -> int:
        """Read the new orders, at intervals, and only if more messages may be in flight."""
        if time.monotonic() < self._next_look or len(self._sent) >= self.in_flight:
            return 0
        self._next_look = time.monotonic() + LOOK_S
        new = [
            (fence, connection_id)
            for fence, connection_id in self.bed.rows(_NEW_ORDERS, self.connections, self._since())
            if fence not in self._known
        ]
        self._known.update(fence for fence, _ in new)
        self._newest = max([self._newest, *(fence for fence, _ in new)])
        self._schedule(0, new)
        return len(new)

    def _schedule(self, phase: int, batch: list[Order]) -> None:
        for fence, connection_id in batch:
            self._unsent[phase, self._gateway[connection_id]].append((fence, connection_id))

    def _since(self) -> str:
        return self._newest[:_OVERLAP] + "0" * (26 - _OVERLAP)

    def _send(self) -> int:
        """Send the next frames, those of the last phase first, so that slots become free."""
        sent = 0
        for phase, batch in self._batches():
            frames = [PHASES[phase](connection_id, fence) for fence, connection_id in batch]
            self._sent[self.bed.publisher.publish("crawler.frames", frames=frames)] = (phase, batch)
            sent += 1
        return sent

    def _batches(self) -> Iterator[tuple[int, list[Order]]]:
        for (phase, _), unsent in self._unsent.items():
            # Wait for full batches while other messages are in flight.
            while unsent and (len(unsent) >= BATCH or len(self._sent) < GATEWAYS):
                if len(self._sent) >= self.in_flight:
                    return
                yield phase, [unsent.popleft() for _ in range(min(BATCH, len(unsent)))]
