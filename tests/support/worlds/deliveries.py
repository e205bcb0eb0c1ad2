"""Delivers a message as a worker does: through Celery's tracer and our request, for each kind of pool."""

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery
from celery.concurrency import get_implementation
from celery.concurrency.base import apply_target
from celery.worker.request import create_request_cls
from kombu.utils.imports import symbol_by_name

from support.processes.workers import envelope
from tasks.routes import queue_of
from tasks.worker.envelope import seal

POOLS = ("prefork", "in one process")
"""What differs: threads and solo run a task in the worker's own process."""


@dataclass
class Outcome:
    """What became of one message."""

    acknowledged: bool = False
    requeued: bool = False
    published: list[dict[str, Any]] = field(default_factory=list)
    """The headers with which it was published again."""
    escaped: BaseException | None = None
    """What the pool got, and nobody handles: the message waits until its worker ends."""

    @property
    def name(self) -> str:
        """How it left its queue."""
        if self.escaped is not None:
            return f"escaped: {self.escaped!r}"
        names = {"requeued": self.requeued, "run again": self.published, "acknowledged": self.acknowledged}
        return next((name for name, is_so in names.items() if is_so), "nowhere")


class Deliveries:
    """Delivers messages to the tasks of an app, and notes what became of them."""

    def __init__(self, app: Celery, patch: pytest.MonkeyPatch) -> None:
        self._app = app
        self._outcome = Outcome()
        patch.setattr(app, "producer_or_acquire", self._producer)
        # The tracer takes a task from the current app, which may be another test's.
        patch.setattr("celery._state._tls.current_app", app, raising=False)

    def deliver(self, pool: str, task: str, message: str, *, retries: int = 0, **payload: Any) -> Outcome:
        """Deliver a message with this id and number of earlier attempts."""
        self._outcome = Outcome()
        text = json.dumps(envelope(task, payload, headers={"id": message, "retries": retries})).encode()
        received = _Message(json.loads(seal(text, queue_of(task), "tag")))
        kind = self._app.tasks[task]
        run = _Pool({"prefork": _in_a_child, "threads": _in_a_thread}.get(pool, apply_target))
        request = create_request_cls(symbol_by_name(kind.Request), kind, run, "here", None, app=self._app)(
            received,
            on_ack=self._acknowledge,
            on_reject=self._reject,
            app=self._app,
            hostname="here",
            eventer=None,
            task=kind,
            connection_errors=(),
            body=received.body,
            headers=received.headers,
            decoded=False,
            utc=True,
        )
        try:
            request.execute_using_pool(run)
        except BaseException as error:
            self._outcome.escaped = error
        return self._outcome

    def _acknowledge(self, *_: Any) -> None:
        self._outcome.acknowledged = True

    def _reject(self, _logger: Any, _errors: Any, requeue: bool) -> None:  # noqa: FBT001 - Celery's signature
        assert requeue
        self._outcome.requeued = True

    @contextmanager
    def _producer(self) -> Iterator[Any]:
        outcome = self._outcome

        class Producer:
            def publish(self, _body: bytes, *, headers: dict[str, Any], **_: Any) -> None:
                outcome.published.append(headers)

        yield Producer()


@dataclass
class _Pool:
    run: Callable[..., None]

    def apply_async(self, target: Any, **options: Any) -> None:
        self.run(target, options.pop("args"), {}, **options)


def _in_a_child(target: Any, args: Any, kwargs: Any, **callbacks: Any) -> None:
    """As billiard's worker and its result handler do; the result is sent through a pipe."""
    callbacks["accept_callback"](1, 0.0)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tasks.runtime.task._MAIN_PROCESS", "another", raising=False)
            report = partial(callbacks["callback"], pickle.loads(pickle.dumps(target(*args, **kwargs))))
    except BaseException:
        report = partial(callbacks["error_callback"], pickle.loads(pickle.dumps(ExceptionInfo())))
    report()


def _in_a_thread(target: Any, args: Any, kwargs: Any, **callbacks: Any) -> None:
    """As the pool of threads does, which nobody asks for results."""
    pool = get_implementation("threads")(limit=1)
    pool.on_apply(target, args, kwargs, **callbacks)
    pool.on_stop()


class _Message:
    """The parts of kombu's message that a request uses."""

    content_type = "application/json"
    content_encoding = "utf-8"
    payload: Any = ([], {}, {})
    """As the worker's consumer leaves it."""

    def __init__(self, sealed: dict[str, Any]) -> None:
        from base64 import b64decode  # noqa: PLC0415

        self.headers = sealed["headers"]
        self.properties = sealed["properties"]
        self.delivery_info = sealed["properties"]["delivery_info"]
        self.body = b64decode(sealed["body"])
