"""
A pool of threads that reports whatever ends a task, or the handling of its result.

Celery's leaves an exception of its tracer or of a callback in a future that nobody reads: the message is then neither
acknowledged nor requeued, and its slot is taken until the worker ends. A lack of memory is such an exception.
"""

from collections.abc import Callable
from typing import Any

import structlog
from billiard.einfo import ExceptionInfo
from celery.concurrency.base import apply_target
from celery.concurrency.thread import ApplyResult, TaskPool

from tasks.runtime import stopping

log = structlog.get_logger()

_PAUSE_S = 1.0


class ThreadPool(TaskPool):
    """Celery's pool of threads, without lost exceptions."""

    def on_apply(
        self,
        target: Any,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **options: Any,
    ) -> Any:
        """Run *target* in a thread."""
        on_error = options.get("error_callback")

        def run() -> None:
            try:
                apply_target(target, args or (), kwargs or {}, callback, accept_callback)
            except Exception as error:
                if on_error is None:
                    raise
                log.warning("task_not_reported", error=type(error).__name__)
                _report(on_error, ExceptionInfo())

        return ApplyResult(self.executor.submit(run))


def _report(on_error: Callable[[Any], None], error: Any) -> None:
    """Report the error, again after a pause while memory is short."""
    while True:
        try:
            on_error(error)
        except MemoryError:
            if stopping.is_stopping():
                raise
            stopping.wait(_PAUSE_S)
        else:
            return
