"""
What becomes of a message whose child process died of it, or had to be killed: again, then kept.

Celery can retry such a message a bounded number of times, but acknowledges it before anybody is told that
the bound is reached, and one that exceeds its time limit is either dropped or run for ever.
"""

from functools import partial
from typing import Any

import structlog
from billiard.exceptions import Terminated, TimeLimitExceeded
from celery.exceptions import Ignore, Reject, Retry
from celery.worker.request import Request as CeleryRequest
from celery.worker.state import task_ready

from tasks.runtime.rejection import Rejected, keep_or_requeue

log = structlog.get_logger()

_NOT_LOST = (Ignore, Reject, Retry, Terminated)

_REASONS = {TimeLimitExceeded: "time_limit", MemoryError: "out_of_memory"}


class Request(CeleryRequest):
    """A message in a child's hands. Task classes name this one as their `Request`."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - Celery's signature
        """Run the message again if its child is gone; what the child itself reported is Celery's."""
        error = getattr(exc_info.exception, "exc", None) or exc_info.exception
        # Celery answers a MemoryError that a child reports with one of the worker's own, and ends.
        reported = return_ok and not isinstance(error, MemoryError)
        if reported or isinstance(error, _NOT_LOST):
            super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
            return
        task_ready(self)
        if self._already_cancelled or self._already_revoked:
            return  # We killed it. Not acknowledged, it is put back when the channel closes.
        reason = _REASONS.get(type(error), "worker_lost")
        log.error("child_lost", reason=reason, task=self.task.name, message_id=self.id, retries=self._retries)
        if self._retries < self.task.max_retries:
            self._run_again()
        else:
            self._keep(reason, type(error).__name__)

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001 - Celery's signature
        """Leave a hard timeout to `on_failure`, which was called already; Celery's would answer it twice."""
        if soft:
            super().on_timeout(soft, timeout)

    @property
    def _retries(self) -> int:
        return int(self.request_dict["retries"])

    def _run_again(self) -> None:
        """
        Publish the message once more, with its count, and only then acknowledge it.

        At the back of its queue, so that what is behind it is served first; without a countdown, which
        would compare clocks.
        """
        try:
            self.task.apply_async(
                self.args,
                self.kwargs,
                task_id=self.id,
                retries=self._retries + 1,
                queue=self.delivery_info["routing_key"],
            )
        except Exception as error:  # noqa: BLE001 - whatever the broker's client raises
            log.warning("not_run_again", message_id=self.id, error=type(error).__name__)
            self.reject(requeue=True)
        else:
            self.acknowledge()

    def _keep(self, reason: str, detail: str) -> None:
        payload = {"args": self.args, "kwargs": self.kwargs}
        keep_or_requeue(
            Rejected(self.task.name, payload, reason, detail=detail, message_id=self.id),
            kept=self.acknowledge,
            requeue=partial(self.reject, requeue=True),
        )
