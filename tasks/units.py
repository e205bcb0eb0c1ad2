"""
Large commands, worked off in bounded units of work within one delivery.

The last unit claims the message. Ended between two, it is delivered again and goes on with what is left;
delivered again after its end, it changes nothing: what has come since is not meant.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TypeAlias

from celery.exceptions import Reject

from persistence.selection import START
from persistence.unit_of_work import UnitOfWork
from tasks.base import message_id, unit_of_work

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


def in_units(*steps: Step) -> None:
    """Take the steps to their end, one after another; raises Reject to go on later, where it takes long."""
    deadline = monotonic() + BUSY_S
    left: Sequence[Step] = steps
    done = Done()
    while left:
        left, done = _one_unit(left, done.place or START)
        # Only after a change, or a walk to what is left that takes so long would never come to it.
        if left and done.changed and monotonic() > deadline:
            raise Reject("there is more to do", requeue=True)


def _one_unit(steps: Sequence[Step], place: str) -> tuple[Sequence[Step], Done]:
    """One transaction; the steps that are left, and what it did."""
    with unit_of_work() as uow:
        if uow.handled.was_handled(message_id()):
            return (), Done()
        done = steps[0](uow, place)
        left = steps[1:] if done.place is None else steps
        if left or uow.handled.claim(message_id()):
            uow.commit()
    return left, done
