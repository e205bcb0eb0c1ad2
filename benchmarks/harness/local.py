"""
Runs tasks in this process, one after the other and without a broker, so that only the database's work is measured.

For lines about tables and indexes. What the tasks publish is dropped: the line itself decides what runs next.
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
    """Handle one message, and return the seconds, including the commit."""
    app = _app()
    begun = time.perf_counter()
    app.tasks[task].apply(kwargs=payload, task_id=str(ULID()), throw=True)
    return time.perf_counter() - begun


@cache
def _app() -> "Celery":
    """Return the app as a pool process has it, except that publishing does nothing."""
    from tasks.app import app  # noqa: PLC0415 - importing it reads the settings, which the bed has set

    app.loader.import_default_modules()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    unit.publish = lambda *_: None
    unit.wake_gateways = lambda: None
    collect_garbage_rarely()
    return app


@dataclass
class Rounds:
    """Whole lives in rounds: an assignment round, then all frames of the assigned jobs, then as many new orders."""

    bed: Bed
    accounts: list[str]
    connections: list[str]
    assignments: list[float] = field(default_factory=list)
    """Seconds of each assignment round, including the commit."""
    ended: int = 0

    def __post_init__(self) -> None:
        self._orders = orders(self.accounts)
        self._reconcile_at = 0.0

    def submit(self, count: int) -> None:
        """Submit more jobs."""
        for _ in range(0, count, BATCH):
            deliver("jobs.submit", orders=list(islice(self._orders, BATCH)))

    def run(self, lives: int) -> float:
        """Run until *lives* more have ended, and return the seconds."""
        goal = self.ended + lives
        begun = time.perf_counter()
        while self.ended < goal:
            self._round()
        return time.perf_counter() - begun

    def _round(self) -> None:
        if time.monotonic() >= self._reconcile_at:
            deliver("upkeep.reconcile")
            self._reconcile_at = time.monotonic() + settings().reconcile_interval.total_seconds()
        self.assignments.append(deliver("jobs.assign"))
        assigned = self.bed.rows(_LIVE, self.connections)
        for phase in PHASES:
            frames = [phase(connection_id, fence) for fence, connection_id in assigned]
            for first in range(0, len(frames), BATCH):
                deliver("crawler.frames", frames=frames[first : first + BATCH])
        self.submit(len(assigned))
        self.ended += len(assigned)
