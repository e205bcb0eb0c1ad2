"""Stores messages that no task can process in `rejected_message`, now or when the database is back."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import structlog
from kombu.asynchronous import get_event_loop
from pydantic import ValidationError

from persistence.exceptions import DataRefusedError
from persistence.settings import settings
from persistence.unit_of_work import unit_of_work

log = structlog.get_logger()

_REPEATED = ("crawler.", "connections.")
"""Tasks whose messages a gateway publishes again under their ids, until it reads that they were processed."""

_NOT_OURS = ("wrong_queue", "wrong_deployment")
"""Reasons for which a message may still come by the right way."""

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 10.0


def keep(
    *,
    task: str | None,
    payload: object,
    reason: str,
    detail: str = "",
    message_id: str | None = None,
    is_whole: bool = True,
) -> None:
    """
    Store a message in `rejected_message`, redacted, in its own unit of work; a redelivery stores nothing.

    *payload* may be anything; what the database refuses is stored escaped. Raises DatabaseLost if there is no
    database: the message must then not be acknowledged. A whole message of crawlers counts as processed from then on;
    with *is_whole* false, the rest of it is still to be applied.
    """
    rejected = Rejected(task, payload, reason, detail, message_id, is_whole)
    try:
        _keep(rejected)
    except DataRefusedError as error:
        _keep(rejected, escaped=True)
        log.warning("rejection_escaped", message_id=message_id, why=str(error))


def _keep(rejected: "Rejected", *, escaped: bool = False) -> None:
    with unit_of_work(_no_publish) as uow:
        uow.tokens.name_within(rejected.payload)
        uow.rejected.keep(
            task=rejected.task,
            payload=rejected.payload,
            reason=rejected.reason,
            detail=rejected.detail,
            message_id=rejected.message_id,
        )
        if escaped:
            uow.rejected.escape()
        # Not by the id alone: a foreign producer may use one id for many messages, and all must be stored.
        is_new = rejected.message_id is None or uow.processed.mark_processed(uow.rejected.fingerprint())
        if not is_new:
            uow.rejected.reset(0)
        if rejected.message_id and rejected.ends_its_message:
            is_new |= uow.processed.mark_processed(rejected.message_id)
        if is_new:
            uow.commit()


def _no_publish(task: str, _arguments: dict[str, Any]) -> None:
    """Refuse to publish: a rejection needs no task."""
    raise AssertionError(f"a rejection published {task}")


@dataclass(frozen=True)
class Rejected:
    """A message to store: the arguments of `keep`."""

    task: str | None
    payload: object
    reason: str
    detail: str = ""
    message_id: str | None = None
    is_whole: bool = True

    @property
    def ends_its_message(self) -> bool:
        """True if a message with this id is not to be applied any more, and somebody waits for that."""
        return (
            self.is_whole
            and self.task is not None
            and self.task.startswith(_REPEATED)
            and self.reason not in _NOT_OURS
        )


def keep_or_requeue(rejected: Rejected, *, kept: Callable[[], None], requeue: Callable[[], None]) -> None:
    """
    Store a message, then call *kept*; call *requeue* if that does not succeed within database_wait.

    It runs in the worker's main process, whose event loop serves other messages: it never sleeps, but retries from
    the loop's timer. If the worker stops first, neither is called: the message was not acknowledged, and kombu
    requeues it.
    """
    deadline = monotonic() + settings().database_wait.total_seconds()
    _try_to_keep(rejected, kept, requeue, deadline, _FIRST_DELAY_S)


def _try_to_keep(
    rejected: Rejected, kept: Callable[[], None], requeue: Callable[[], None], deadline: float, delay: float
) -> None:
    try:
        keep(**vars(rejected))
    except Exception as error:  # noqa: BLE001 - whatever the reason, the message is not lost
        log.warning("rejection_not_kept", message_id=rejected.message_id, error=type(error).__name__)
        if monotonic() + delay > deadline:
            requeue()
            log.warning("message_requeued", message_id=rejected.message_id)
            return
        following = min(2 * delay, _LONGEST_DELAY_S)
        loop = get_event_loop()
        assert loop is not None  # prefork, threads and solo all have one on Redis
        loop.call_later(delay, _try_to_keep, rejected, kept, requeue, deadline, following)
    else:
        log.warning("message_rejected", reason=rejected.reason, message_id=rejected.message_id)
        kept()


def describe_error(error: Exception) -> str:
    """Describe what is wrong with an input, without quoting it."""
    if not isinstance(error, ValidationError):
        return str(error) if isinstance(error, TypeError) else type(error).__name__
    return "; ".join(f"{_place(e['loc'])} ({e['msg']})" for e in error.errors(include_input=False))


def _place(location: tuple[int | str, ...]) -> str:
    """The place of a fault by the contract's names, without pydantic's labels for members of a union."""
    parts = [str(part) for part in location if isinstance(part, int) or part.isidentifier()]
    return ".".join(parts) or "it"
