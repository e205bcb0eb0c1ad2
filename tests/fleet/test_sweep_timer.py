"""The worker's own sweep timer runs once per connection to the broker."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tasks.app import app
from tasks.worker.lifecycle import SweepTimer


@dataclass
class Timer:
    """A worker's timer that only records what is to be called."""

    entries: list[Callable[..., None]] = field(default_factory=list)

    def call_repeatedly(
        self, _seconds: float, call: Callable[..., None], _arguments: object
    ) -> Callable[..., None]:
        """Start a timer."""
        self.entries.append(call)
        return call

    def cancel(self, entry: Callable[..., None]) -> None:
        """Stop a timer."""
        self.entries.remove(entry)


@dataclass
class Consumer:
    """The part of Celery's consumer that the step uses."""

    timer: Timer = field(default_factory=Timer)
    app: object = app


@pytest.mark.usefixtures("database")
def test_a_sweep_timer_that_never_started_can_be_stopped() -> None:
    """If the broker is lost while the steps start, Celery stops all of them and starts them again."""
    consumer = Consumer()
    timer = SweepTimer(consumer)

    timer.stop(consumer)
    timer.start(consumer)
    timer.stop(consumer)
    timer.stop(consumer)
    timer.start(consumer)

    assert len(consumer.timer.entries) == 1
