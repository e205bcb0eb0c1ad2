"""Rejected messages, for whoever looks through them, and settles them."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from persistence.db.engine import engine
from persistence.db.snapshot import snapshot
from persistence.db.sqlstate import translate_errors
from persistence.exceptions import IllegalRequestError
from persistence.migrations.head import require_head
from persistence.settings import settings

PAGE = 200

_CRITERIA = """
       -- What is not asked for is folded away, since every plan is made for its values.
       (CAST(:ids AS text[]) IS NULL OR id = ANY (CAST(:ids AS text[])))
       AND (CAST(:reason AS text) IS NULL OR reason = :reason)
       AND (CAST(:task AS text) IS NULL OR task = :task)
       AND (CAST(:since AS interval) IS NULL OR rejected_at >= now() - CAST(:since AS interval))
       AND (CAST(:until AS interval) IS NULL OR rejected_at <= now() - CAST(:until AS interval))
"""

_COLUMNS = "id, rejected_at, task, message_id, reason, detail, payload"

_NEWEST = text(f"""
    SELECT {_COLUMNS} FROM rejected_message WHERE {_CRITERIA} ORDER BY rejected_at DESC, id DESC LIMIT :limit
""")  # noqa: S608 - no input is in it

_COUNT = text(f"SELECT count(*) AS number, now() AS moment FROM rejected_message WHERE {_CRITERIA}")  # noqa: S608

_OLDEST = text(f"""
    SELECT {_COLUMNS} FROM rejected_message
     WHERE {_CRITERIA} AND rejected_at <= :moment
       AND (CAST(:after_at AS timestamptz) IS NULL OR (rejected_at, id) > (:after_at, :after_id))
     ORDER BY rejected_at, id LIMIT :limit
""")  # noqa: S608

_DISCARD = text("""
    -- What somebody else holds is being deleted by him.
    DELETE FROM rejected_message WHERE id IN (
        SELECT id FROM rejected_message WHERE id = ANY (CAST(:ids AS text[]))
         ORDER BY id COLLATE "C" FOR UPDATE SKIP LOCKED
    )
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


@dataclass(frozen=True)
class RejectedFilter:
    """Which rejected messages: those for which all holds that is given."""

    ids: tuple[str, ...] | None = None
    reason: str | None = None
    task: str | None = None
    since: timedelta | None = None
    """Not older than this."""
    until: timedelta | None = None
    """Not younger than this."""


@dataclass(frozen=True)
class RejectedCount:
    """How many there were at a moment, by the database's clock."""

    number: int
    moment: datetime


def read_rejected(criteria: RejectedFilter, *, limit: int) -> list[Rejected]:
    """
    Read at most *limit* rejections, the newest first.

    Raises SchemaError where the schema is not at head, and the database's errors as ours.
    """
    with snapshot(settings().statement_timeout) as connection:
        require_head(connection)
        return _read(connection, _NEWEST, _values(criteria) | {"limit": limit})


def read_rejection(rejected_id: str) -> Rejected:
    """Read one. Raises IllegalRequestError where there is none of that id."""
    rejected = read_rejected(RejectedFilter(ids=(rejected_id,)), limit=1)
    if not rejected:
        raise IllegalRequestError(f"there is no rejected message {rejected_id}")
    return rejected[0]


def count_rejected(criteria: RejectedFilter) -> RejectedCount:
    """How many there are. Raises SchemaError where the schema is not at head."""
    with snapshot(settings().statement_timeout) as connection:
        require_head(connection)
        return RejectedCount(**connection.execute(_COUNT, _values(criteria)).one()._mapping)  # noqa: SLF001 - public in spite of its name


def pages_of_rejected(criteria: RejectedFilter, moment: datetime) -> Iterator[list[Rejected]]:
    """
    The rejections up to *moment*, the oldest first, in pages of PAGE.

    Each page is read when it is asked for: what was read may be deleted meanwhile, what is rejected
    meanwhile is left out.
    """
    after: dict[str, Any] = {"after_at": None, "after_id": None}
    while page := _page(_values(criteria) | after | {"moment": moment, "limit": PAGE}):
        yield page
        after = {"after_at": page[-1].rejected_at, "after_id": page[-1].id}


def discard_rejected(ids: Collection[str]) -> None:
    """Delete rejections, in one transaction; what is gone already is no matter."""
    with translate_errors(), engine().begin() as connection:
        connection.execute(_DISCARD, {"ids": list(ids)})


def _page(values: dict[str, Any]) -> list[Rejected]:
    with snapshot(settings().statement_timeout) as connection:
        return _read(connection, _OLDEST, values)


def _values(criteria: RejectedFilter) -> dict[str, Any]:
    return vars(criteria) | {"ids": None if criteria.ids is None else list(criteria.ids)}


def _read(connection: Connection, statement: Any, values: dict[str, Any]) -> list[Rejected]:
    return [Rejected(**row._mapping) for row in connection.execute(statement, values)]  # noqa: SLF001 - public in spite of its name
