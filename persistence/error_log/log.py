"""The table `job_error_log`: every failure of a job, redacted before it is stored."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session
from ulid import ULID

from persistence.error_log.fingerprint import fingerprint
from persistence.sanitize.json_values import JSON, STORED_BYTES, clean_text, storable
from persistence.sanitize.known_tokens import KnownTokens
from persistence.sanitize.text import Tokens
from persistence.schema.ids import JobId

_LOG = text("""
    INSERT INTO job_error_log (id, job_id, timestamp, error_type, error_message, stack_trace, context, retry_count,
                               is_recoverable, fingerprint)
    SELECT id, job_id, clock_timestamp(), error_type, error_message, stack_trace, context, retry_count,
           is_recoverable, fingerprint
      FROM jsonb_populate_recordset(NULL::job_error_log, CAST(:rows AS jsonb))
""")

_RESOLVE = text("""
    -- In the order of the group's index, in which every other resolution also locks the rows.
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

TYPE_BYTES = 200
MESSAGE_BYTES = 20_000
TRACE_BYTES = 200_000
_ATTEMPT_BYTES = 200
CONTEXT_BYTES = STORED_BYTES - _ATTEMPT_BYTES


@dataclass(frozen=True)
class JobError:
    """An error of a job, as it was reported; `ErrorLog.log` redacts it."""

    job_id: JobId
    error_type: str
    message: str
    stack_trace: str | None = None
    context: dict[str, Any] | None = None
    attempt: dict[str, str] | None = None
    """The attempt that ended with it: added to the context after the context is cut to its size limit."""
    retry_count: int = 0
    is_recoverable: bool = True

    def row(self, texts: dict[str, str | None], tokens: Tokens) -> dict[str, Any]:
        """The row to insert, with *texts* as `_texts` returned them."""
        return {
            "id": str(ULID()),
            "job_id": self.job_id,
            **texts,
            "context": self._context(tokens),
            "retry_count": self.retry_count,
            "is_recoverable": self.is_recoverable,
        }

    def _context(self, tokens: Tokens) -> JSON:
        context = None if self.context is None else storable(self.context, CONTEXT_BYTES, tokens)
        if self.attempt is None:
            return context
        return (context if isinstance(context, dict) else {}) | self.attempt


def _texts(tokens: Tokens, error_type: str, message: str, stack_trace: str | None) -> dict[str, str | None]:
    """The texts of an error as they are stored, by column, with the fingerprint of the stored texts."""
    error_type = clean_text(error_type, TYPE_BYTES, tokens)
    message = clean_text(message, MESSAGE_BYTES, tokens)
    trace = None if stack_trace is None else clean_text(stack_trace, TRACE_BYTES, tokens)
    return {
        "error_type": error_type,
        "error_message": message,
        "stack_trace": trace,
        "fingerprint": fingerprint(error_type, message, trace),
    }


@dataclass(frozen=True)
class ResolvedErrors:
    """The number of errors resolved, and the time of the newest of them."""

    errors: int
    newest: datetime | None


class ErrorLog:
    """The table `job_error_log`."""

    def __init__(self, session: Session, tokens: KnownTokens) -> None:
        self._session = session
        self._tokens = tokens

    def log(self, errors: Collection[JobError]) -> list[str]:
        """Store errors of jobs that the caller has locked; returns their types as stored, in the same order."""
        tokens = self._tokens.values() if errors else ()
        texts = cache(partial(_texts, tokens))  # a thousand jobs that are lost together have the same texts
        rows = [
            error.row(texts(error.error_type, error.message, error.stack_trace), tokens) for error in errors
        ]
        if rows:
            self._session.execute(_LOG, {"rows": json.dumps(rows)})
        return [row["error_type"] for row in rows]

    def resolve(
        self, fingerprint: str, resolution: str, *, until: datetime, since: datetime | None, limit: int
    ) -> ResolvedErrors:
        """
        Resolve at most *limit* unresolved errors of a group up to *until*, the oldest first.

        To resolve a group in parts, pass the time of the newest error of the last part as *since*: earlier errors
        are not read again.
        """
        values = {
            "fingerprint": fingerprint,
            "resolution": clean_text(resolution, MESSAGE_BYTES),
            "until": until,
            "since": since,
            "limit": limit,
        }
        return ResolvedErrors(**self._session.execute(_RESOLVE, values).one()._mapping)  # noqa: SLF001 - public in spite of its name
