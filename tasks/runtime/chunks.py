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

BUSY_S = 30.0
"""So long one delivery goes on unit by unit; then its message goes to the end of its queue."""


@dataclass(frozen=True)
class Done:
    """What one unit did."""

    changed: int = 0
    place: str | None = None
    """Where the next unit begins; None: the step is at its end."""


Step: TypeAlias = Callable[[UnitOfWork, str], Done]
"""
Does one unit of something, behind a place.

It is begun anew at START by each delivery, and must then pass over what is done already.
"""


@dataclass(frozen=True)
class _Course:
    """Where a command stands."""

    steps: Sequence[Step]
    looks: int
    """How often the steps may be taken, this time included."""
    taken: int = 0
    """Steps that are at their end."""
    place: str = START
    changed: int = 0
    """Since the first of the steps."""

    @property
    def is_over(self) -> bool:
        return self.taken == len(self.steps)

    def after(self, done: Done) -> "_Course":
        """Where it stands behind this unit."""
        changed = self.changed + done.changed
        if done.place is not None:
            return replace(self, place=done.place, changed=changed)
        if self.taken + 1 == len(self.steps) and changed and self.looks > 1:
            return _Course(self.steps, self.looks - 1)
        return replace(self, taken=self.taken + 1, place=START, changed=changed)


def in_units(*steps: Step, looks: int = 1) -> None:
    """
    Take the steps to their end, one after another; raises Reject to go on later, where it takes long.

    With more *looks* all of them are taken once more while that changes anything, so often at most.
    """
    deadline = monotonic() + BUSY_S
    course = _Course(steps, looks)
    while not course.is_over:
        course = _one_unit(course)
        # Only after a change, or a walk to what is left that takes so long would never come to it.
        if course.changed and not course.is_over and monotonic() > deadline:
            raise Reject("there is more to do", requeue=True)


def _one_unit(course: _Course) -> _Course:
    """One transaction; where the command stands behind it."""
    with unit_of_work() as uow:
        if uow.handled.was_handled(message_id()):
            return replace(course, taken=len(course.steps))
        course = course.after(course.steps[course.taken](uow, course.place))
        if not course.is_over or uow.handled.claim(message_id()):
            uow.commit()
    return course
