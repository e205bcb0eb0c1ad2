"""Rejected messages, the newest first: for whoever looks, never to decide upon."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from persistence.exceptions import IllegalRequestError
from persistence.inspection import require_head, snapshot
from persistence.settings import settings

_REJECTED = text("""
    -- What is not asked for is folded away, since every plan is made for its values.
    SELECT id, rejected_at, task, message_id, reason, detail, payload FROM rejected_message
     WHERE (CAST(:id AS text) IS NULL OR id = :id)
       AND (CAST(:reason AS text) IS NULL OR reason = :reason)
       AND (CAST(:task AS text) IS NULL OR task = :task)
     ORDER BY rejected_at DESC, id DESC LIMIT :limit
""")


@dataclass(frozen=True)
class Rejected:
    """A message, or an item of one, that could not be accepted."""

    id: str
    rejected_at: datetime
    task: str | None
    message_id: str | None
    reason: str
    detail: str
    payload: Any


def read_rejected(*, reason: str | None = None, task: str | None = None, limit: int) -> list[Rejected]:
    """
    Read at most *limit* rejections of this reason and task, the newest first.

    Raises SchemaError where the schema is not at head, and the database's errors as ours.
    """
    return _read({"id": None, "reason": reason, "task": task, "limit": limit})


def read_rejection(rejected_id: str) -> Rejected:
    """Read one. Raises IllegalRequestError where there is none of that id."""
    rejected = _read({"id": rejected_id, "reason": None, "task": None, "limit": 1})
    if not rejected:
        raise IllegalRequestError(f"there is no rejected message {rejected_id}")
    return rejected[0]


def _read(values: dict[str, Any]) -> list[Rejected]:
    with snapshot(settings().statement_timeout) as connection:
        require_head(connection)
        return [Rejected(**row._mapping) for row in connection.execute(_REJECTED, values)]  # noqa: SLF001 - public in spite of its name
