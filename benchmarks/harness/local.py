"""
Tasks applied in this process, one after the other, without a broker: what the database sees, and no more.

For lines that are about tables and indexes. Bells go nowhere: the line itself says what comes next.
"""

import logging
import time
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import structlog
from ulid import ULID

from benchmarks.harness.bed import Bed
from benchmarks.harness.lives import BATCH, PHASES
from benchmarks.harness.world import orders
from persistence.settings import settings
from tasks.runtime import unit
from tasks.worker.lifecycle import collect_garbage_rarely

if TYPE_CHECKING:
    from celery import Celery

_LIVE = """
    SELECT crawler_job_id, connection_id FROM crawler_order WHERE connection_id = ANY (%s)
"""


def deliver(task: str, **payload: Any) -> float:
    """Handle one message; the seconds that took, with its commit."""
    app = _app()
    begun = time.perf_counter()
    app.tasks[task].apply(kwargs=payload, task_id=str(ULID()), throw=True)
    return time.perf_counter() - begun


@cache
def _app() -> "Celery":
    """The app as a worker's child has it, but for the bells."""
    from tasks.app import app  # noqa: PLC0415 - reads the settings, which the bed has set

    app.loader.import_default_modules()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    unit.publish = lambda *_: None
    collect_garbage_rarely()
    return app


@dataclass
class Rounds:
    """Whole lives, a round of them at a time: a pass, then every word of what it seated, then as many orders."""

    bed: Bed
    accounts: list[str]
    connections: list[str]
    passes: list[float] = field(default_factory=list)
    """Seconds of each pass, with its commit."""
    ended: int = 0

    def __post_init__(self) -> None:
        self._orders = orders(self.accounts)
        self._reconcile_at = 0.0

    def submit(self, count: int) -> None:
        """Let so many more jobs wait."""
        for _ in range(0, count, BATCH):
            deliver("jobs.submit", orders=list(islice(self._orders, BATCH)))

    def run(self, lives: int) -> float:
        """Until so many more have ended; the seconds that took."""
        goal = self.ended + lives
        begun = time.perf_counter()
        while self.ended < goal:
            self._round()
        return time.perf_counter() - begun

    def _round(self) -> None:
        if time.monotonic() >= self._reconcile_at:
            deliver("upkeep.reconcile")
            self._reconcile_at = time.monotonic() + settings().reconcile_interval.total_seconds()
        self.passes.append(deliver("jobs.assign"))
        assigned = self.bed.rows(_LIVE, self.connections)
        for phase in PHASES:
            frames = [phase(connection_id, fence) for fence, connection_id in assigned]
            for first in range(0, len(frames), BATCH):
                deliver("crawler.frames", frames=frames[first : first + BATCH])
        self.submit(len(assigned))
        self.ended += len(assigned)
