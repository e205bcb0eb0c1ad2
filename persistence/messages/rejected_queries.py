"""Rejected messages for operators: list, count, read in pages, and discard."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Executable,
    Text,
    any_,
    delete,
    func,
    literal,
    select,
    tuple_,
)
from sqlalchemy.orm import Session

from persistence.db.engine import engine
from persistence.db.snapshot import snapshot
from persistence.db.sqlstate import translate_errors
from persistence.exceptions import IllegalRequestError
from persistence.migrations.head import require_head
from persistence.schema.ids import AccountId
from persistence.schema.sql import among, sql
from persistence.schema.tables import RejectedMessage
from persistence.settings import settings

PAGE = 200

_ROWS = select(
    RejectedMessage.id,
    RejectedMessage.rejected_at,
    RejectedMessage.task,
    RejectedMessage.message_id,
    RejectedMessage.reason,
    RejectedMessage.detail,
    RejectedMessage.payload,
)
_AGE_ORDER = (RejectedMessage.rejected_at, RejectedMessage.id)

# A row that is locked is being deleted by another session.
_DISCARD = delete(RejectedMessage).where(
    RejectedMessage.id.in_(
        select(RejectedMessage.id)
        .where(among(RejectedMessage.id))
        .order_by(RejectedMessage.id)
        .with_for_update(skip_locked=True)
    )
)


_DELETE_NAMING = sql("""
    -- Only values that are the id, at any depth; a text that contains it may be about another.
    WITH page AS (
        SELECT id, payload FROM rejected_message WHERE id > :after ORDER BY id LIMIT :limit
    ), deleted AS (
        DELETE FROM rejected_message m USING page
         WHERE m.id = page.id AND EXISTS (
                   SELECT FROM jsonb_path_query(page.payload, 'strict $$.** ? (@.type() == "string")') value
                    WHERE value #>> '{}' = ANY (CAST(:ids AS text[])))
        RETURNING m.id
    )
    SELECT max(id) AS last, (SELECT count(*) FROM deleted) AS deleted FROM page
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
    """Selects the rejected messages that match every given criterion; None matches all."""

    ids: tuple[str, ...] | None = None
    reason: str | None = None
    task: str | None = None
    since: timedelta | None = None
    """Rejected at most this long ago."""
    until: timedelta | None = None
    """Rejected at least this long ago."""


@dataclass(frozen=True)
class RejectedCount:
    """The number of rejected messages at a moment of the database's clock."""

    number: int
    moment: datetime


def read_rejected(criteria: RejectedFilter, *, limit: int) -> list[Rejected]:
    """
    Read at most *limit* rejections, the newest first.

    Raises SchemaError if the schema is not at head, and the database's errors as ours.
    """
    newest = (column.desc() for column in _AGE_ORDER)
    statement = _ROWS.where(*_matching(criteria)).order_by(*newest).limit(limit)
    with snapshot(settings().statement_timeout) as connection:
        require_head(connection)
        return _read(connection, statement)


def read_rejection(rejected_id: str) -> Rejected:
    """Read one rejection. Raises IllegalRequestError if there is none with that id."""
    rejected = read_rejected(RejectedFilter(ids=(rejected_id,)), limit=1)
    if not rejected:
        raise IllegalRequestError(f"there is no rejected message {rejected_id}")
    return rejected[0]


def count_rejected(criteria: RejectedFilter) -> RejectedCount:
    """Count the rejections. Raises SchemaError if the schema is not at head."""
    statement = select(func.count(), func.now()).select_from(RejectedMessage).where(*_matching(criteria))
    with snapshot(settings().statement_timeout) as connection:
        require_head(connection)
        number, moment = connection.execute(statement).one()
        return RejectedCount(number, moment)


def pages_of_rejected(criteria: RejectedFilter, moment: datetime) -> Iterator[list[Rejected]]:
    """
    The rejections up to *moment*, the oldest first, in pages of PAGE.

    Each page is read when it is asked for. Rows of earlier pages may be deleted meanwhile, and what is rejected
    after *moment* is left out.
    """
    statement = _ROWS.where(*_matching(criteria), RejectedMessage.rejected_at <= moment)
    statement = statement.order_by(*_AGE_ORDER).limit(PAGE)
    page = _page(statement)
    while page:
        yield page
        page = _page(statement.where(tuple_(*_AGE_ORDER) > (page[-1].rejected_at, page[-1].id)))


def discard_rejected(ids: Collection[str]) -> None:
    """Delete rejections in one transaction. Ids that are already gone are ignored."""
    with translate_errors(), engine().begin() as connection:
        connection.execute(_DISCARD, {"ids": list(ids)})


def delete_rejected_naming(
    session: Session, ids: Collection[AccountId], after: str, limit: int
) -> tuple[str | None, int]:
    """
    Delete the rejected messages that name these accounts among the next *limit*.

    Returns the last id, None if there are no more, and how many were deleted.
    """
    values = {"ids": list(ids), "after": after, "limit": limit}
    last, deleted = session.execute(_DELETE_NAMING, values).one()
    return last, deleted


def _matching(criteria: RejectedFilter) -> Iterator[ColumnElement[bool]]:
    if criteria.ids is not None:
        yield RejectedMessage.id == any_(literal(list(criteria.ids), ARRAY(Text)))
    if criteria.reason is not None:
        yield RejectedMessage.reason == criteria.reason
    if criteria.task is not None:
        yield RejectedMessage.task == criteria.task
    if criteria.since is not None:
        yield RejectedMessage.rejected_at >= func.now() - criteria.since
    if criteria.until is not None:
        yield RejectedMessage.rejected_at <= func.now() - criteria.until


def _page(statement: Executable) -> list[Rejected]:
    with snapshot(settings().statement_timeout) as connection:
        return _read(connection, statement)


def _read(connection: Connection, statement: Executable) -> list[Rejected]:
    return [Rejected(*row) for row in connection.execute(statement)]
