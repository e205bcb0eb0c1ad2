"""Batches: a bad item is rejected and does not affect the good ones."""

from collections.abc import Callable
from typing import TypeVar
from uuid import NAMESPACE_OID, uuid5

from celery import current_task
from ulid import ULID

from persistence.exceptions import DataRefusedError
from persistence.unit_of_work import UnitOfWork
from tasks.runtime.unit import message_id

T = TypeVar("T")


def derived_id(message: str, position: int | str) -> str:
    """A ULID for an item without an id, the same at each delivery."""
    return str(ULID.from_uuid(uuid5(NAMESPACE_OID, f"{message}:{position}")))


def reject(
    uow: UnitOfWork, item: object, reason: str, detail: str = "", connection_id: str | None = None
) -> None:
    """Reject one item of the current message; the unit's commit writes it."""
    name = current_task.name if current_task else None
    uow.rejected.keep(
        task=name,
        payload=item,
        reason=reason,
        detail=detail,
        message_id=message_id(),
        connection_id=connection_id,
    )


def bisect_on_refusal(
    uow: UnitOfWork, items: list[T], apply: Callable[[list[T]], None], refuse: Callable[[T, str], None]
) -> None:
    """
    Apply a batch; if the database refuses a value, halve the batch until the bad item is alone.

    Each half is a savepoint of the same transaction. The good items are applied; *refuse* gets each bad item with the
    database's reason.
    """
    if not items:
        return
    try:
        with uow.savepoint():
            apply(items)
    except DataRefusedError as error:
        if len(items) == 1:
            refuse(items[0], str(error))
            return
        middle = len(items) // 2
        bisect_on_refusal(uow, items[:middle], apply, refuse)
        bisect_on_refusal(uow, items[middle:], apply, refuse)
