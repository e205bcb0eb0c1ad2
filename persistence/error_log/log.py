"""The error log: every failure on record, redacted before it is stored."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session
from ulid import ULID

from persistence.error_log.fingerprint import fingerprint
from persistence.sanitize.json_values import JSON, STORED_BYTES, clean_text, storable
from persistence.schema.ids import JobId

_LOG = text("""
    INSERT INTO job_error_log (id, job_id, timestamp, error_type, error_message, stack_trace, context, retry_count,
                               is_recoverable, fingerprint)
    SELECT r.id, r.job_id, clock_timestamp(), r.error_type, r.error_message, r.stack_trace, r.context,
           r.retry_count, r.is_recoverable, r.fingerprint
      FROM jsonb_to_recordset(CAST(:rows AS jsonb))
           AS r(id text, job_id text, error_type text, error_message text, stack_trace text, context jsonb,
                retry_count int, is_recoverable boolean, fingerprint text)
""")

_RESOLVE = text("""
    -- In the order of the group's index, in which every unit and every other resolution locks them.
    WITH unresolved AS (
        SELECT id, timestamp FROM job_error_log
         WHERE fingerprint = :fingerprint AND resolution IS NULL
           AND timestamp >= COALESCE(CAST(:since AS timestamptz), '-infinity') AND timestamp <= :until
         ORDER BY timestamp, id LIMIT :limit FOR NO KEY UPDATE
    ), resolved AS (
        UPDATE job_error_log e SET resolution = :resolution FROM unresolved u WHERE e.id = u.id
        RETURNING u.timestamp
    )
    SELECT count(*) AS errors, max(timestamp) AS newest FROM resolved
""")

_TYPE_BYTES = 200
_MESSAGE_BYTES = 20_000
_TRACE_BYTES = 200_000
_ATTEMPT_BYTES = 200


@dataclass(frozen=True)
class JobError:
    """An error of a job, as it was told; it is redacted on its way in."""

    job_id: JobId
    error_type: str
    message: str
    stack_trace: str | None = None
    context: dict[str, Any] | None = None
    attempt: dict[str, str] | None = None
    """Which attempt ended with it: stands in the context, whatever had to be cut of what was said there."""
    retry_count: int = 0
    is_recoverable: bool = True

    def row(self, texts: dict[str, str | None]) -> dict[str, Any]:
        """By column, without secrets; *texts* as they are kept."""
        return {
            "id": str(ULID()),
            "job_id": self.job_id,
            **texts,
            "context": self._context(),
            "retry_count": self.retry_count,
            "is_recoverable": self.is_recoverable,
        }

    def _context(self) -> JSON:
        context = None if self.context is None else storable(self.context, STORED_BYTES - _ATTEMPT_BYTES)
        if self.attempt is None:
            return context
        return (context if isinstance(context, dict) else {}) | self.attempt


def _texts(error_type: str, message: str, stack_trace: str | None) -> dict[str, str | None]:
    """What is kept of an error's texts, by column, and their fingerprint, which is of what is kept."""
    error_type = clean_text(error_type, _TYPE_BYTES)
    message = clean_text(message, _MESSAGE_BYTES)
    trace = None if stack_trace is None else clean_text(stack_trace, _TRACE_BYTES)
    return {
        "error_type": error_type,
        "error_message": message,
        "stack_trace": trace,
        "fingerprint": fingerprint(error_type, message, trace),
    }


@dataclass(frozen=True)
class ResolvedErrors:
    """How many errors were resolved, and of when the newest of them is."""

    errors: int
    newest: datetime | None


class ErrorLog:
    """The table `job_error_log`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def log(self, errors: Collection[JobError]) -> list[str]:
        """Put errors of jobs that the caller holds on record; their types as they were kept, in the same order."""
        texts = cache(_texts)  # a thousand that were lost at once are told of in the same words
        rows = [error.row(texts(error.error_type, error.message, error.stack_trace)) for error in errors]
        if rows:
            self._session.execute(_LOG, {"rows": json.dumps(rows)})
        return [row["error_type"] for row in rows]

    def resolve(
        self, fingerprint: str, resolution: str, *, until: datetime, since: datetime | None, limit: int
    ) -> ResolvedErrors:
        """
        Resolve at most *limit* errors of a group that are not, of *until* at the latest, the oldest first.

        Those of before *since* are passed over: who resolves a group in parts gives the newest of the last part.
        """
        values = {
            "fingerprint": fingerprint,
            "resolution": clean_text(resolution, _MESSAGE_BYTES),
            "until": until,
            "since": since,
            "limit": limit,
        }
        return ResolvedErrors(**self._session.execute(_RESOLVE, values).one()._mapping)  # noqa: SLF001 - public in spite of its name
