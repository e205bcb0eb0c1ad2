"""Messages that no task could take, kept in `rejected_message`: at once, or when the database is back."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import structlog
from kombu.asynchronous import get_event_loop
from pydantic import ValidationError

from persistence.settings import settings
from persistence.unit_of_work import unit_of_work

log = structlog.get_logger()

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 10.0


def keep(
    *, task: str | None, payload: object, reason: str, detail: str = "", message_id: str | None = None
) -> None:
    """
    Keep a message in `rejected_message`, redacted, in a unit of work of its own; delivered again, once.

    *payload* may be anything at all. Raises DatabaseLost where there is no database: the message must
    not be acknowledged then.
    """
    with unit_of_work(_no_publish) as uow:
        uow.rejected.keep(task=task, payload=payload, reason=reason, detail=detail, message_id=message_id)
        # Not by the id alone: a foreign producer may give one id to many messages, and none must vanish.
        if message_id is None or uow.processed.mark_processed(uow.rejected.fingerprint()):
            uow.commit()


def _no_publish(task: str, _arguments: dict[str, Any]) -> None:
    """Nobody waits for a rejection."""
    raise AssertionError(f"{task} was rung by a rejection")


@dataclass(frozen=True)
class Rejected:
    """A message to keep: what `keep` takes."""

    task: str | None
    payload: object
    reason: str
    detail: str = ""
    message_id: str | None = None


def keep_or_requeue(rejected: Rejected, *, kept: Callable[[], None], requeue: Callable[[], None]) -> None:
    """
    Keep a message, then call *kept*; call *requeue* if that does not succeed within database_wait.

    For the worker's own process: it never sleeps, since the event loop has other messages to serve, but
    tries again from the loop's timer. One of the two is called, unless the worker is stopped before: then
    the message was not acknowledged, and kombu puts it back.
    """
    log.warning("message_rejected", reason=rejected.reason, message_id=rejected.message_id)
    deadline = monotonic() + settings().database_wait.total_seconds()
    _attempt(rejected, kept, requeue, deadline, _FIRST_DELAY_S)


def _attempt(
    rejected: Rejected, kept: Callable[[], None], requeue: Callable[[], None], deadline: float, delay: float
) -> None:
    try:
        keep(**vars(rejected))
    except Exception as error:  # noqa: BLE001 - whatever stops it from being kept, it is not lost
        log.warning("rejection_not_kept", message_id=rejected.message_id, error=type(error).__name__)
        if monotonic() + delay > deadline:
            requeue()
            return
        following = min(2 * delay, _LONGEST_DELAY_S)
        loop = get_event_loop()
        assert loop is not None  # prefork, threads and solo all have one on Redis
        loop.call_later(delay, _attempt, rejected, kept, requeue, deadline, following)
    else:
        kept()


def describe_error(error: Exception) -> str:
    """What is wrong with an input, without the input."""
    if not isinstance(error, ValidationError):
        return str(error) if isinstance(error, TypeError) else type(error).__name__
    return "; ".join(f"{_place(e['loc'])} ({e['msg']})" for e in error.errors(include_input=False))


def _place(location: tuple[int | str, ...]) -> str:
    """Where a fault is, in the words of the contract: pydantic's own for the members of a union are left out."""
    parts = [str(part) for part in location if isinstance(part, int) or part.isidentifier()]
    return ".".join(parts) or "it"
