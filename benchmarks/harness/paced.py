"""Drives whole lives at a given rate, in a thread, as the load under which something else is measured."""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event

from benchmarks.harness.lives import BATCH, PHASES, Drive, Order

SWITCH_S = 0.0005
"""Python's switch interval between threads; the default is ten times as long, and would add to what is measured."""


@dataclass
class Paced(Drive):
    """
    A run of *rate* lives per second. With a *depth*, frames are sent at that rate; without one, orders are.

    With a depth, jobs wait all the time and every slot is used; without one, each job is assigned immediately.
    """

    in_flight: int = 2
    rate: float = 0
    seconds: float = field(default=0, init=False)
    _begun: float = field(default=0, init=False)
    _frames: int = field(default=0, init=False)

    @contextmanager
    def running(self) -> Iterator["Future[None]"]:
        """Drive in the background; the future is done only if it fails, and *seconds* is the duration afterwards."""
        done, interval = Event(), sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
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
        """Return how many lives should have begun by now; without a limit when the timed run is over."""
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
