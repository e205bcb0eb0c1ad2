"""
Large commands, worked off in bounded units of work within one delivery.

The last unit claims the message. Ended between two, it is delivered again and goes on with what is left;
delivered again after its end, it changes nothing: what has come since is not meant.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import TypeAlias

from celery.exceptions import Reject

from persistence.jobs.selection import START
from persistence.unit_of_work import UnitOfWork
from tasks.runtime.unit import message_id, unit_of_work

TIME_LIMIT_S = 30.0
"""So long one delivery goes on unit by unit; then its message goes to the end of its queue."""


@dataclass(frozen=True)
class ChunkResult:
    """What one unit did."""

    changed: int = 0
    place: str | None = None
    """Where the next unit begins; None: the step is at its end."""


Step: TypeAlias = Callable[[UnitOfWork, str], ChunkResult]
"""
Does one unit of something, behind a place.

It is begun anew at START by each delivery, and must then pass over what is done already.
"""


@dataclass(frozen=True)
class _Position:
    """Where a command stands."""

    steps: Sequence[Step]
    max_passes: int
    """How often the steps may be taken, this time included."""
    steps_done: int = 0
    """Steps that are at their end."""
    place: str = START
    changed: int = 0
    """Since the first of the steps."""

    @property
    def is_over(self) -> bool:
        return self.steps_done == len(self.steps)

    def after(self, result: ChunkResult) -> "_Position":
        """Where it stands behind this unit."""
        changed = self.changed + result.changed
        if result.place is not None:
            return replace(self, place=result.place, changed=changed)
        if self.steps_done + 1 == len(self.steps) and changed and self.max_passes > 1:
            return _Position(self.steps, self.max_passes - 1)
        return replace(self, steps_done=self.steps_done + 1, place=START, changed=changed)


def run_in_chunks(*steps: Step, max_passes: int = 1) -> None:
    """
    Take the steps to their end, one after another; raises Reject to go on later, where it takes long.

    With more *max_passes* all of them are taken once more while that changes anything, so often at most.
    """
    deadline = monotonic() + TIME_LIMIT_S
    position = _Position(steps, max_passes)
    while not position.is_over:
        position = _run_chunk(position)
        # Only after a change, or a walk to what is left that takes so long would never come to it.
        if position.changed and not position.is_over and monotonic() > deadline:
            raise Reject("there is more to do", requeue=True)


def _run_chunk(position: _Position) -> _Position:
    """One transaction; where the command stands behind it."""
    with unit_of_work() as uow:
        if uow.processed.was_processed(message_id()):
            return replace(position, steps_done=len(position.steps))
        position = position.after(position.steps[position.steps_done](uow, position.place))
        if not position.is_over or uow.processed.mark_processed(message_id()):
            uow.commit()
    return position
