"""Errors resolved: `failures.resolve` says of a group of errors what became of it, in bounded units."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from celery.exceptions import Reject

from persistence.unit_of_work import UnitOfWork
from tasks.app import app
from tasks.base import message_id, unit_of_work
from tasks.messages import ResolveFailures

UNIT_ERRORS = 1000
"""Errors that one unit resolves at most."""

BUSY_S = 30.0
"""So long one delivery resolves unit by unit; then its message goes to the end of its queue."""


@app.task(name="failures.resolve", accepts=ResolveFailures)
def resolve(payload: ResolveFailures) -> None:
    """Resolve all errors of the group; raises Reject to go on later, where they are very many."""
    _in_units(Resolution(payload).one_unit)


@dataclass
class Resolution:
    """
    The errors that a group has when its resolution begins.

    One that comes afterwards stays unresolved, so that the group shows again.
    """

    wish: ResolveFailures
    until: datetime | None = None
    since: datetime | None = None

    def one_unit(self, uow: UnitOfWork) -> bool:
        """Resolve at most UNIT_ERRORS errors; whether there may be more."""
        self.until = self.until or uow.now()
        resolved = uow.errors.resolve(
            self.wish.error_group,
            self.wish.resolution,
            until=self.until,
            since=self.since,
            limit=UNIT_ERRORS,
        )
        self.since = resolved.newest or self.since
        return resolved.errors == UNIT_ERRORS


def _in_units(one_unit: Callable[[UnitOfWork], bool]) -> None:
    """
    Run units of work until one says that it was the last, which claims the message.

    Ended between two, the message is delivered again and goes on; said again after its end, it changes nothing.
    """
    deadline = monotonic() + BUSY_S
    while _goes_on(one_unit):
        if monotonic() > deadline:
            raise Reject("there is more to do", requeue=True)


def _goes_on(one_unit: Callable[[UnitOfWork], bool]) -> bool:
    with unit_of_work() as uow:
        if uow.handled.was_handled(message_id()):
            return False
        there_is_more = one_unit(uow)
        if there_is_more or uow.handled.claim(message_id()):
            uow.commit()
    return there_is_more
