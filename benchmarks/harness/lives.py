"""
Whole lives of jobs, driven as a web app and a gateway drive them: through messages alone.

The phases of one job are never in one batch: the next word is said when the message with the last
one has been handled. The queue is kept at a constant depth throughout.
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
"""Orders, or frames, a message."""

PHASES: tuple[Callable[[str, str], dict[str, Any]], ...] = (started, progressed, completed)

GATEWAYS = 4
"""Each holds its share of the connections, and says in one message what came over them."""

_NEW_ORDERS = """
    SELECT crawler_job_id, connection_id FROM crawler_order
     WHERE connection_id = ANY (%s) AND crawler_job_id > %s
"""

_HANDLED = "SELECT message_id FROM handled_message WHERE message_id = ANY (%s)"

LOOK_S = 0.2
"""Between two looks at the orders: about the time between two passes, of which a gateway is notified."""

_PAUSE_S = 0.01
"""Where there is nothing to say: every question whether something was handled is paid by what is measured."""

_OVERLAP = 8
"""Characters of a ULID that are the same within a second: so far back a look reads again."""

Order = tuple[str, str]
"""A crawler_job_id, and its connection."""


@dataclass
class Drive:
    """One run: keeps *depth* jobs waiting, and works off what is handed out, until *lives* have ended."""

    bed: Bed
    accounts: list[str]
    connections: list[str]
    depth: int
    first: int = 0
    """The number of the first project, where some have been made before."""
    in_flight: int = 8
    """Messages of orders, and of words, that wait at a time."""
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
        """Drive until so many more have ended; the seconds that took."""
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
        """Note which messages were handled; their jobs have come one phase further."""
        asked = [*self._sent, *self._ordered]
        handled = {id_ for (id_,) in self.bed.rows(_HANDLED, asked)} if asked else set()
        self._ordered -= handled
        for id_ in handled & self._sent.keys():
            phase, spoken = self._sent.pop(id_)
            if phase + 1 < len(PHASES):
                self._schedule(phase + 1, spoken)
            else:
                self.ended += len(spoken)
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
        """Read what was handed out since the last look; now and then, and only with words to spare."""
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

    def _schedule(self, phase: int, spoken: list[Order]) -> None:
        for fence, connection_id in spoken:
            self._unsent[phase, self._gateway[connection_id]].append((fence, connection_id))

    def _since(self) -> str:
        return self._newest[:_OVERLAP] + "0" * (26 - _OVERLAP)

    def _send(self) -> int:
        """Say the next words, the last phase first, so that seats come free."""
        sent = 0
        for phase, batch in self._batches():
            frames = [PHASES[phase](connection_id, fence) for fence, connection_id in batch]
            self._sent[self.bed.publisher.publish("crawler.frames", frames=frames)] = (phase, batch)
            sent += 1
        return sent

    def _batches(self) -> Iterator[tuple[int, list[Order]]]:
        for (phase, _), unsent in self._unsent.items():
            # Rather full batches while there is enough to do.
            while unsent and (len(unsent) >= BATCH or len(self._sent) < GATEWAYS):
                if len(self._sent) >= self.in_flight:
                    return
                yield phase, [unsent.popleft() for _ in range(min(BATCH, len(unsent)))]
