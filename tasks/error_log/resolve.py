"""Errors resolved: `failures.resolve` says of a group of errors what became of it, in bounded units."""

from dataclasses import dataclass
from datetime import datetime

from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import ResolveFailures
from tasks.runtime.chunks import Done, in_units
from tasks.runtime.task import task

UNIT_ERRORS = 1000
"""Errors that one unit resolves at most."""


@task(name="failures.resolve", accepts=ResolveFailures)
def resolve(payload: ResolveFailures) -> None:
    """Resolve all errors of the group; raises Reject to go on later, where they are very many."""
    in_units(Resolution(payload).one_unit)


@dataclass
class Resolution:
    """
    The errors that a group has when its resolution begins.

    One that comes afterwards stays unresolved, so that the group shows again.
    """

    wish: ResolveFailures
    until: datetime | None = None
    since: datetime | None = None

    def one_unit(self, uow: UnitOfWork, _place: str) -> Done:
        """Resolve at most UNIT_ERRORS errors."""
        self.until = self.until or uow.now()
        resolved = uow.errors.resolve(
            self.wish.error_group,
            self.wish.resolution,
            until=self.until,
            since=self.since,
            limit=UNIT_ERRORS,
        )
        self.since = resolved.newest or self.since
        return Done(resolved.errors, "more" if resolved.errors == UNIT_ERRORS else None)
