"""Errors resolved: `failures.resolve` says of a group of errors what became of it, in bounded units."""

from dataclasses import dataclass
from datetime import datetime

from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import ResolveFailures
from tasks.runtime.chunks import ChunkResult, run_in_chunks
from tasks.runtime.task import task

CHUNK_ERRORS = 1000
"""Errors that one unit resolves at most."""


@task(name="failures.resolve", accepts=ResolveFailures)
def resolve(payload: ResolveFailures) -> None:
    """Resolve all errors of the group; raises Reject to go on later, where they are very many."""
    run_in_chunks(Resolution(payload).resolve_chunk)


@dataclass
class Resolution:
    """
    The errors that a group has when its resolution begins.

    One that comes afterwards stays unresolved, so that the group shows again.
    """

    request: ResolveFailures
    until: datetime | None = None
    since: datetime | None = None

    def resolve_chunk(self, uow: UnitOfWork, _place: str) -> ChunkResult:
        """Resolve at most UNIT_ERRORS errors."""
        self.until = self.until or uow.now()
        resolved = uow.error_log.resolve(
            self.request.error_group,
            self.request.resolution,
            until=self.until,
            since=self.since,
            limit=CHUNK_ERRORS,
        )
        self.since = resolved.newest or self.since
        return ChunkResult(resolved.errors, "more" if resolved.errors == CHUNK_ERRORS else None)
