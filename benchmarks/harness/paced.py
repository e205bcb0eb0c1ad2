"""Whole lives at a given rate, in a thread: the load under which something else is measured."""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event

from benchmarks.harness.lives import BATCH, PHASES, Drive, Order

_SWITCH_S = 0.0005
"""Between two threads of Python; by default ten times as long, which whoever measures would wait."""


@dataclass
class Paced(Drive):
    """
    A run of so many lives a second: with a *depth* words are said at that rate, without one orders are.

    With it jobs wait throughout and every seat is taken; without it each job is seated at once.
    """

    in_flight: int = 2
    rate: float = 0
    seconds: float = field(default=0, init=False)
    _begun: float = field(default=0, init=False)
    _frames: int = field(default=0, init=False)

    @contextmanager
    def running(self) -> Iterator["Future[None]"]:
        """Drive while the caller does something else, done only if it fails; afterwards *seconds* says how long."""
        done, interval = Event(), sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        with ThreadPoolExecutor(1) as thread:
            driving = thread.submit(self._drive, done)
            try:
                yield driving
            finally:
                done.set()
                sys.setswitchinterval(interval)
            driving.result()

    def _drive(self, done: Event) -> None:
        self._begun = time.monotonic()
        while not done.is_set():
            if not (self._collect() + self._submit() + self._look() + self._send()):
                time.sleep(0.002)
        self.seconds = time.monotonic() - self._begun

    def _due(self) -> float:
        """How many lives are to have begun by now; all, when it is not driven at its rate."""
        return float("inf") if self.seconds else (time.monotonic() - self._begun) * self.rate

    def _submit(self) -> int:
        if self.depth or self.seconds:
            return super()._submit()
        if self.submitted + BATCH > self._due():
            return 0
        self._order()
        return 1

    def _batches(self) -> Iterator[tuple[int, list[Order]]]:
        if self.depth and self._frames >= self._due() * len(PHASES):
            return
        for phase, batch in super()._batches():
            self._frames += len(batch)
            yield phase, batch
