"""
What every task is: one payload, validated; one unit of work, run again as a whole where that helps.

    @app.task(name="jobs.assign", accepts=Assign)
    def assign(_: Assign) -> None:
        with unit_of_work() as uow:
            ...
            uow.commit()

A message leaves its queue in three ways only: its unit committed, it was kept as rejected, or it
went back to the queue.
"""

import random
from collections.abc import Callable, Sequence
from itertools import count
from time import monotonic, sleep
from typing import Any, TypeVar

import structlog
from celery import Task, current_task
from celery.exceptions import Reject, TaskPredicate
from pydantic import ValidationError
from structlog.contextvars import bound_contextvars
from ulid import ULID

from persistence import unit_of_work as persistence_unit
from persistence.db.exceptions import Contended, CrawlyardError, FellSilent, TransientError
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Payload
from tasks.runtime import rejection
from tasks.worker import lifecycle
from tasks.worker.request import Request

log = structlog.get_logger()

T = TypeVar("T")

_CONTENDED_STEP_S = 0.02
_CONTENDED_LONGEST_S = 1.0
_LOST_STEP_S = 0.25
_LOST_LONGEST_S = 5.0
_SILENCES = 3
"""Who was frozen as often in one unit is not frozen, but has something to do that takes too long, each time."""


class UnitTask(Task):
    """A task whose body is one unit of work, or a row of them that may each be run again."""

    abstract = True
    Request = Request
    typing = False
    """Arguments are the payload's fields, not the body's parameters: they are bound where they arrive."""
    max_retries = 3
    """How often a message may kill its worker and be run again, before it is kept as rejected."""
    accepts: type[Payload]

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Validate the payload, then run the body until it is done; what does not fit is kept as rejected."""
        with bound_contextvars(task=self.name, message_id=message_id()):
            try:
                payload = self._read(args, kwargs)
            except (ValidationError, TypeError, RecursionError) as error:
                _keep(args, kwargs, "invalid", rejection.complaint(error))
                return
            try:
                persevere(lambda: self.run(payload))
            except (TaskPredicate, MemoryError):
                raise  # tasks/worker/request.py answers a child that is out of memory
            except Exception as error:
                log.exception("unit_failed")
                told = str(error) if isinstance(error, CrawlyardError) else type(error).__name__
                _keep(args, kwargs, "failed", told)

    def _read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        return self.accepts.model_validate(bind(self.accepts, args, kwargs))


def bind(accepts: type[Payload], args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Bind arguments to the fields of a payload, by position and name. Raises TypeError where they do not fit."""
    names = list(accepts.model_fields)
    if len(args) > len(names):
        raise TypeError(f"at most {len(names)} positional arguments are accepted")
    given = dict(zip(names, args, strict=False))
    if given.keys() & kwargs.keys():
        raise TypeError("an argument is given twice")
    return given | kwargs


def _keep(args: tuple[Any, ...], kwargs: dict[str, Any], reason: str, detail: str) -> None:
    """
    Keep the message in hand as rejected; where even that cannot be, it goes back to its queue.

    That is so where the database was never migrated, or is not ours to write to.
    """
    payload = {"args": args, "kwargs": kwargs} if args else kwargs
    name, id_ = current_task.name, message_id()
    log.warning("message_rejected", reason=reason)
    try:
        persevere(
            lambda: rejection.keep(task=name, payload=payload, reason=reason, detail=detail, message_id=id_)
        )
    except CrawlyardError as error:
        log.error("message_requeued", why=str(error))  # noqa: TRY400 - a line, not a trace, a second
        lifecycle.wait(_LOST_LONGEST_S)
        raise Reject(str(error), requeue=True) from None


def persevere(unit: Callable[[], None], *, to_the_end: bool = False) -> None:
    """
    Run a unit of work until it is through.

    One that met another transaction, or lost the database, left nothing behind and is run again,
    for `database_wait`, or until the worker is told to stop; then its message goes back to its
    queue. Raises Reject for that. *to_the_end*: only the task's time limit ends it, for what no
    other delivery of the message could write. Raises FellSilent where the unit takes too long without a
    word to the database, each time: given back, its message would come again for ever.
    """
    deadline = monotonic() + settings().database_wait.total_seconds()
    silences = 0
    for attempt in count():
        try:
            unit()
        except FellSilent:
            silences += 1
            if silences == _SILENCES and not to_the_end:
                raise
        except TransientError as error:
            pause = _pause(error, attempt)
            if not to_the_end and (lifecycle.is_stopping() or monotonic() + pause > deadline):
                log.warning("message_requeued", why=str(error))
                raise Reject(str(error), requeue=True) from None
            if not isinstance(error, Contended):
                log.warning("database_lost", why=str(error), retry_in_s=round(pause, 2))
            (sleep if to_the_end else lifecycle.wait)(pause)
        else:
            return


def _pause(error: TransientError, attempt: int) -> float:
    """Seconds: short and often for a lock, long and rarely for a database that is gone; with jitter."""
    if isinstance(error, Contended):
        step, longest = _CONTENDED_STEP_S, _CONTENDED_LONGEST_S
    else:
        step, longest = _LOST_STEP_S, _LOST_LONGEST_S
    bound: float = min(step * 2 ** min(attempt, 20), longest)
    return random.uniform(0.5, 1) * bound  # noqa: S311 - jitter


def unit_of_work() -> UnitOfWork:
    """Begin a unit of work whose bells are tasks of this app."""
    return persistence_unit.unit_of_work(ring)


def ring(task: str, arguments: dict[str, Any]) -> None:
    """Publish a task by name; times are sent as ISO 8601."""
    from tasks.app import app  # noqa: PLC0415 - the app is made of tasks, which are made of this

    plain = {k: v.isoformat() if hasattr(v, "isoformat") else v for k, v in arguments.items()}
    app.send_task(task, kwargs=plain)


def message_id() -> str:
    """The id of the message in hand, the same at each delivery; a fresh one outside of a worker."""
    return (current_task and current_task.request.id) or str(ULID())
