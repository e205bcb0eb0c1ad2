"""Turns a rejected message back into the arguments of its task, to send it again."""

from collections.abc import Callable
from typing import Any, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError

from persistence.exceptions import IllegalRequestError
from persistence.sanitize.alterations import alteration_of
from tasks.contract.payloads import CONTRACT
from tasks.contract.types import type_of_batch
from tasks.runtime.rejection import describe_error
from tasks.runtime.task import bind

T = TypeVar("T")

BATCHES: dict[str, tuple[str, TypeAdapter[Any]]] = {
    task: (name, TypeAdapter(get_args(field.annotation)[0]))
    for task, payload in CONTRACT.items()
    for name, field in payload.model_fields.items()
    if type_of_batch in field.metadata
}
"""By task: the payload field that is a batch, and the type of its items, which are rejected one by one."""

_DISCOVERY_ITEM_KEYS = {"type", "jobId", "item"}


class UnreplayableError(IllegalRequestError):
    """The message cannot be sent again as it was stored; the text says why."""


def original_arguments(task: str | None, reason: str, kept: Any) -> dict[str, Any]:
    """
    The arguments to publish *task* with again, from what was stored of its message or of one item.

    Raises UnreplayableError if the message was for no known task, if what was stored differs from what was sent, or if
    it would be rejected again.
    """
    if reason == "malformed":
        raise UnreplayableError("it was not a message")
    if kept is None:
        raise UnreplayableError("its payload was not kept")
    if why := alteration_of(kept):
        raise UnreplayableError(f"what was stored is not what was sent: {why}")
    return edited_arguments(task, kept)


def edited_arguments(task: str | None, payload: Any) -> dict[str, Any]:
    """As `original_arguments`, with a payload that an operator has edited."""
    if task is None or task not in CONTRACT:
        raise UnreplayableError("it named no task" if task is None else f"there is no task {task}")
    if task == "crawler.frames" and isinstance(payload, dict) and payload.keys() == _DISCOVERY_ITEM_KEYS:
        raise UnreplayableError("it is one item of a discovery, without its frame")
    field, item = BATCHES.get(task, (None, None))
    match payload:
        case {"args": list() as args, "kwargs": dict() as kwargs} if len(payload) == 2:  # noqa: PLR2004 - these two keys
            return _checked(lambda: bind(CONTRACT[task], args, kwargs), CONTRACT[task].model_validate)
        case dict() if field is None or field in payload:
            return _checked(lambda: payload, CONTRACT[task].model_validate)
        case _ if field is not None and item is not None:
            return {field: [_checked(lambda: payload, item.validate_python)]}
    raise UnreplayableError("it is not an object")


def _checked(read: Callable[[], T], check: Callable[[T], object]) -> T:
    """Return what *read* returns, if *check* accepts it."""
    try:
        value = read()
        check(value)
    except (ValidationError, TypeError, RecursionError) as error:
        raise UnreplayableError(f"the contract refuses it: {describe_error(error)}") from None
    return value
