"""
The base of all tasks: it validates the payload, and runs the unit of work until it is done.

    @task(name="jobs.assign", accepts=Assign)
    def assign(_: Assign) -> None:
        with unit_of_work() as uow:
            ...
            uow.commit()

A message leaves its queue in one of three ways: its unit committed, it was kept as rejected, or it was requeued. Celery
acknowledges a message whose task raises, so nothing leaves a task but what requeues its message (Reject), or what makes
the worker run it again and keep it in the end (UnfinishedError, tasks/worker/request.py).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog
from billiard import current_process
from celery import Task, current_task, shared_task
from celery.exceptions import Reject, TaskPredicate, WorkerShutdown, WorkerTerminate
from pydantic import ValidationError
from structlog.contextvars import bound_contextvars

from persistence.exceptions import CrawlyardError
from tasks.contract.payloads import Payload
from tasks.runtime import rejection, stopping
from tasks.runtime.reading.body import Body, BodyRefusedError
from tasks.runtime.reading.large_items import MAX_ITEM_BYTES
from tasks.runtime.reading.readable import readable_body
from tasks.runtime.retry import UnfinishedError, run_until_done
from tasks.runtime.unit import message_id

log = structlog.get_logger()

_REQUEUE_PAUSE_S = 5.0

_MAIN_PROCESS = "MainProcess"
"""The name of the process in which the pools without children run their tasks."""


class MessageTask(Task):
    """A task that a worker calls with the body of its message, unread."""

    abstract = True
    Request = "tasks.worker.request:Request"
    typing = False
    """Arguments are the payload's fields, not the body's parameters; `bind` checks them when the task runs."""
    max_retries = 3
    """How often a message that kills its child is run again before it is rejected."""

    throws = (UnfinishedError,)
    """Celery logs no traceback for it."""

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """
        Read the body and process its arguments; reject the message if either fails.

        Raises Reject to requeue the message, and UnfinishedError if even that is not possible or may never end.
        """
        try:
            with bound_contextvars(task=self.name, message_id=message_id()):
                self._process(args, kwargs)
        except (TaskPredicate, WorkerShutdown, WorkerTerminate):
            raise
        except MemoryError as error:
            stopping.wait(_REQUEUE_PAUSE_S)
            raise UnfinishedError("out_of_memory", type(error).__name__) from None
        except Exception as error:
            stopping.wait(_REQUEUE_PAUSE_S)
            raise UnfinishedError("failed", type(error).__name__) from error
        except BaseException as error:
            if self.request.is_eager or current_process().name != _MAIN_PROCESS:
                raise  # it ends whoever called us, or this child, which the worker replaces
            raise UnfinishedError("worker_lost", type(error).__name__) from error

    def _process(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Process one message, and keep it as rejected if its arguments cannot be read, or on any error of ours."""
        try:
            match args:
                case [Body() as body]:
                    args, kwargs = _read(body)
            self.process(args, kwargs)
        except (TaskPredicate, MemoryError):
            raise
        except BodyRefusedError as error:
            _keep_rejected(_given(args, kwargs), error.reason, str(error))
        except Exception as error:
            log.exception("unit_failed")
            detail = str(error) if isinstance(error, CrawlyardError) else type(error).__name__
            _keep_rejected(_given(args, kwargs), "failed", detail)

    def process(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Process one message."""
        self.run(*args, **kwargs)


class UnitTask(MessageTask):
    """A task whose body is one unit of work, or several that may each be run again."""

    abstract = True
    accepts: type[Payload]

    def process(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Validate the payload and run the body until it is done; reject the message if the payload is invalid."""
        try:
            payload = self._read(args, kwargs)
        except (ValidationError, TypeError, RecursionError) as error:
            _keep_rejected(_given(args, kwargs), "invalid", rejection.describe_error(error))
            return
        run_until_done(lambda: self.run(payload))

    def _read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        return self.accepts.model_validate(bind(self.accepts, args, kwargs))


task = partial(shared_task, base=UnitTask)
"""Declares a task by its name and the payload that it `accepts`; tasks/app.py imports them."""


def bind(accepts: type[Payload], args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Bind arguments to the fields of a payload, by position and name. Raises TypeError if they do not fit."""
    names = list(accepts.model_fields)
    if len(args) > len(names):
        raise TypeError(f"at most {len(names)} positional arguments are accepted")
    given = dict(zip(names, args, strict=False))
    if given.keys() & kwargs.keys():
        raise TypeError("an argument is given twice")
    return given | kwargs


def _read(body: Body) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Read the arguments, and keep the items that are too large as rejected. Raises BodyRefusedError."""
    given = body.read()
    for item in given.large:
        detail = f"an item of {len(item):,} bytes, more than {MAX_ITEM_BYTES:,}"
        _keep_rejected(readable_body(item), "too_large", detail, is_whole=False)
    return tuple(given.args), given.kwargs


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """The payload as it was sent."""
    match args:
        case [Body() as body]:
            return readable_body(body.raw)
    return {"args": args, "kwargs": kwargs} if args else kwargs


def _keep_rejected(payload: object, reason: str, detail: str, *, is_whole: bool = True) -> None:
    """
    Keep the current message, or an item of it, as rejected; requeue it after a pause if even that fails.

    It fails if the database was never migrated, if we may not write to it, or if the driver or we have a defect.
    """
    name, id_ = current_task.name, message_id()
    try:
        run_until_done(
            lambda: rejection.keep(
                task=name,
                payload=payload,
                reason=reason,
                detail=detail,
                message_id=id_,
                is_whole=is_whole,
            )
        )
    except (TaskPredicate, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever the reason, the message is not lost
        why = str(error) if isinstance(error, CrawlyardError) else type(error).__name__
        log.error("message_requeued", why=why)  # noqa: TRY400 - it may repeat for hours; a traceback each time helps no one
        stopping.wait(_REQUEUE_PAUSE_S)
        raise Reject(why, requeue=True) from None
    log.warning("message_rejected", reason=reason)
