"""Runs a unit of work again as a whole: soon after a lock conflict, later after a lost database."""

import random
from collections.abc import Callable
from itertools import count
from time import monotonic, sleep

import structlog
from celery.exceptions import Reject

from persistence.exceptions import Contended, IdleTransactionEnded, TransientError
from persistence.settings import settings
from tasks.runtime import stopping

log = structlog.get_logger()

_CONTENDED_STEP_S = 0.02
_CONTENDED_LONGEST_S = 1.0
_LOST_STEP_S = 0.25
_LOST_LONGEST_S = 5.0
_MAX_IDLE_TIMEOUTS = 3
"""A unit that idles in its transaction this often is not frozen; it does something that takes too long each time."""


def run_until_done(unit: Callable[[], None], *, until_time_limit: bool = False) -> None:
    """
    Run a unit of work until it succeeds.

    A unit that met another transaction, or lost the database, wrote nothing and is run again, for `database_wait` or
    until the worker stops. Then this raises Reject, which requeues the message. With *until_time_limit*, for results
    that no other delivery of the message could write, only the task's time limit ends it.

    Raises IdleTransactionEnded if the unit idles in its transaction each time: its message would come back forever.
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
        except TransientError as error:
            pause = _pause(error, attempt)
            if not until_time_limit and (stopping.is_stopping() or monotonic() + pause > deadline):
                log.warning("message_requeued", why=str(error))
                raise Reject(str(error), requeue=True) from None
            if not isinstance(error, Contended):
                log.warning("database_lost", why=str(error), retry_in_s=round(pause, 2))
            (sleep if until_time_limit else stopping.wait)(pause)
        else:
            return


def _pause(error: TransientError, attempt: int) -> float:
    """Seconds to wait, with jitter: short after a lock conflict, long for a database that is away."""
    if isinstance(error, Contended):
        step, longest = _CONTENDED_STEP_S, _CONTENDED_LONGEST_S
    else:
        step, longest = _LOST_STEP_S, _LOST_LONGEST_S
    bound: float = min(step * 2 ** min(attempt, 20), longest)
    return random.uniform(0.5, 1) * bound  # noqa: S311 - jitter
