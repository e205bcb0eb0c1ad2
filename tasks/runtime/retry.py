"""Runs a unit of work again as a whole: soon after a lock conflict, later after a lost database or a shortage."""

import random
from collections.abc import Callable
from itertools import count
from time import monotonic, sleep

import structlog
from celery.exceptions import Reject

from persistence.exceptions import (
    Contended,
    DatabaseLost,
    IdleTransactionEnded,
    RightsMissing,
    TransientError,
)
from persistence.settings import settings
from persistence.shortage import is_shortage
from tasks.runtime import lost_rights, stopping

log = structlog.get_logger()

_CONTENDED_STEP_S = 0.02
_CONTENDED_LONGEST_S = 1.0
_LOST_STEP_S = 0.25
_LOST_LONGEST_S = 5.0
_MAX_IDLE_TIMEOUTS = 3
"""A unit that idles in its transaction this often is not frozen; it does something that takes too long each time."""


class UnfinishedError(Exception):
    """
    A delivery ended and its message was neither processed nor rejected nor requeued.

    The worker runs the message again a bounded number of times, and then rejects it with this *reason*.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def run_until_done(unit: Callable[[], None], *, until_time_limit: bool = False) -> None:
    """
    Run a unit of work until it succeeds.

    A unit that met another transaction, lost the database, or found no descriptor or memory left, wrote nothing and
    is run again, for `database_wait` or until the worker stops. Then this raises Reject, which requeues the message.
    With *until_time_limit*, for results that no other delivery of the message could write, only the task's time limit
    ends it.

    Raises IdleTransactionEnded if the unit idles in its transaction each time, and MemoryError if memory is short for
    all that time: both may be the message's own fault, and it would come back forever.
    """
    deadline = monotonic() + settings().database_wait.total_seconds()
    idle_timeouts = 0
    for attempt in count():
        try:
            unit()
        except IdleTransactionEnded:
            idle_timeouts += 1
            if idle_timeouts == _MAX_IDLE_TIMEOUTS and not until_time_limit:
                raise
        except (TransientError, OSError, MemoryError) as error:
            if isinstance(error, OSError) and not is_shortage(error):
                raise
            pause, why = _pause(error, attempt), _describe(error)
            if not until_time_limit and (stopping.is_stopping() or monotonic() + pause > deadline):
                if isinstance(error, MemoryError) and not stopping.is_stopping():
                    raise
                log.warning("message_requeued", why=why)
                raise Reject(why, requeue=True) from None
            if not isinstance(error, Contended):
                log.warning(_name(error), why=why, retry_in_s=round(pause, 2))
            (sleep if until_time_limit else stopping.wait)(pause)
        else:
            return


def _describe(error: Exception) -> str:
    """Say in one line what the unit waits for."""
    return (
        lost_rights.describe(error)
        if isinstance(error, RightsMissing)
        else str(error) or type(error).__name__
    )


def _name(error: Exception) -> str:
    """What the log calls it."""
    if isinstance(error, RightsMissing):
        return "rights_missing"
    return "database_lost" if isinstance(error, DatabaseLost) else "resources_short"


def _pause(error: Exception, attempt: int) -> float:
    """Seconds to wait, with jitter: short after a lock conflict, long for what is away."""
    if isinstance(error, Contended):
        step, longest = _CONTENDED_STEP_S, _CONTENDED_LONGEST_S
    else:
        step, longest = _LOST_STEP_S, _LOST_LONGEST_S
    bound: float = min(step * 2 ** min(attempt, 20), longest)
    return random.uniform(0.5, 1) * bound  # noqa: S311 - jitter
