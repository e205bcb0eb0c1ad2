"""
Runs a large command in chunks: bounded units of work within one delivery of its message.

The last unit marks the message as processed. If the worker dies between two units, the redelivered message continues
with the rest. A redelivery after the end changes nothing: rows that appeared since are not meant.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TypeAlias

from celery.exceptions import Reject

from persistence.jobs.selection import START
from persistence.unit_of_work import UnitOfWork
from tasks.runtime.unit import message_id, unit_of_work

TIME_LIMIT_S = 30.0
"""A delivery runs units for this long; then its message goes to the end of its queue."""


@dataclass(frozen=True)
class ChunkResult:
    """The result of one unit."""

    changed: int = 0
    place: str | None = None
    """Where the next unit begins; None at the end of the step."""


Step: TypeAlias = Callable[[UnitOfWork, str], ChunkResult]
"""
Runs one unit of a step, from a place on.

Each delivery begins at START; the step must skip what earlier deliveries have done.
"""


def run_in_chunks(*steps: Step, max_passes: int = 1) -> None:
    """
    Run the steps to their end, one after another, each in as many units of work as it needs.

    All steps are repeated while a pass changes something, up to *max_passes* times. Raises Reject, which requeues
    the message, if that takes longer than TIME_LIMIT_S.
    """
    deadline = monotonic() + TIME_LIMIT_S
    for passes_left in reversed(range(max_passes)):
        changed = 0
        for step in steps:
            place: str | None = START
            while place is not None:
                # Only after a change: otherwise skipping what is done could use up every delivery.
                if changed and monotonic() > deadline:
                    raise Reject("there is more to do", requeue=True)
                with unit_of_work() as uow:
                    if uow.processed.was_processed(message_id()):
                        return
                    result = step(uow, place)
                    changed, place = changed + result.changed, result.place
                    is_last = place is None and step is steps[-1] and not (changed and passes_left)
                    if is_last and not uow.processed.mark_processed(message_id()):
                        return  # another delivery of the message was faster: roll back
                    uow.commit()
                if is_last:
                    return
