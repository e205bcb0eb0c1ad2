"""The task `failures.resolve`: resolves all errors of a group, in bounded transactions."""

from dataclasses import dataclass
from datetime import datetime

from persistence.error_log.log import MESSAGE_BYTES
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import ResolveFailures
from tasks.runtime.chunks import ChunkResult, run_in_chunks
from tasks.runtime.task import task
from tasks.sanitize.texts import redact_reason

CHUNK_ERRORS = 1000
"""Errors that one transaction resolves at most."""


@task(name="failures.resolve", accepts=ResolveFailures)
def resolve(payload: ResolveFailures) -> None:
    """Resolve all errors of the group. Raises Reject to continue later if they are very many."""
    run_in_chunks(Resolution(payload, redact_reason(payload.resolution, MESSAGE_BYTES)).resolve_chunk)


@dataclass
class Resolution:
    """
    Resolves the errors that the group has when the task begins.

    An error that is logged later stays unresolved, so that its group is listed again.
    """

    request: ResolveFailures
    resolution: str
    """That of the request, redacted."""
    until: datetime | None = None
    since: datetime | None = None

    def resolve_chunk(self, uow: UnitOfWork, _place: str) -> ChunkResult:
        """Resolve at most CHUNK_ERRORS errors."""
        self.until = self.until or uow.now()
        resolved = uow.error_log.resolve(
            self.request.error_group,
            self.resolution,
            until=self.until,
            since=self.since,
            limit=CHUNK_ERRORS,
        )
        self.since = resolved.newest or self.since
        return ChunkResult(resolved.errors, "more" if resolved.errors == CHUNK_ERRORS else None)
