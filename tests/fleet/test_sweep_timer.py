"""The worker's own timer: it rings from one connection to the broker to the next, and once each time."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tasks.app import app
from tasks.worker.lifecycle import SweepTimer


@dataclass
class Timer:
    """A worker's timer: notes what is to be called."""

    entries: list[Callable[..., None]] = field(default_factory=list)

    def call_repeatedly(
        self, _seconds: float, call: Callable[..., None], _arguments: object
    ) -> Callable[..., None]:
        """Begin."""
        self.entries.append(call)
        return call

    def cancel(self, entry: Callable[..., None]) -> None:
        """End."""
        self.entries.remove(entry)


@dataclass
class Consumer:
    """As much of Celery's as the step sees."""

    timer: Timer = field(default_factory=Timer)
    app: object = app


@pytest.mark.usefixtures("database")
def test_a_sweep_timer_that_never_started_can_be_stopped() -> None:
    """The broker was lost again while the steps were started: Celery stops all of them, and starts them anew."""
    consumer = Consumer()
    timer = SweepTimer(consumer)

    timer.stop(consumer)
    timer.start(consumer)
    timer.stop(consumer)
    timer.stop(consumer)
    timer.start(consumer)

    assert len(consumer.timer.entries) == 1
