"""
Handles a message whose child process died, was killed, or could not end it: it is run again, and finally rejected.

Celery can retry such a message a bounded number of times, but acknowledges it before it reports that the bound is
reached, and it either drops a message that exceeds its time limit or runs it forever.
"""

from functools import partial
from typing import Any

import structlog
from billiard.exceptions import Terminated, TimeLimitExceeded
from celery.exceptions import Ignore, Reject, Retry
from celery.worker.request import Request as CeleryRequest
from celery.worker.state import task_ready

from tasks.routes import PUBLISH_POLICY
from tasks.runtime.reading.body import Body
from tasks.runtime.reading.readable import readable_body
from tasks.runtime.rejection import Rejected, keep_or_requeue
from tasks.runtime.retry import UnfinishedError

log = structlog.get_logger()

_NOT_LOST = (Ignore, Reject, Retry, Terminated)

_REASONS = {TimeLimitExceeded: "time_limit", MemoryError: "out_of_memory"}


class Request(CeleryRequest):
    """A message that a child processes. Task classes name this class as their `Request`."""

    def __init__(self, message: Any, *args: Any, **kwargs: Any) -> None:
        """Pass the body on as bytes, which the task reads. Celery would parse it here and in the child."""
        super().__init__(message, *args, **kwargs)
        self._raw: bytes = message.body or b""
        self._body: Any = ([Body(self._raw)], {}, None)
        self._content_type = None  # the body is what Celery takes for decoded arguments

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - Celery's signature
        """
        Run the message again if its child is gone, or reports that it did not end it. Leave other results to Celery.

        Celery acknowledges what a child reports as failed, and ends the worker at a MemoryError.
        """
        if self.acknowledged:
            return  # the message has left its queue; what failed is only the handling of its result
        error = getattr(exc_info.exception, "exc", None) or exc_info.exception
        if isinstance(error, _NOT_LOST):
            super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
            return
        task_ready(self)
        if self._already_cancelled or self._already_revoked:
            return  # We killed it. It is not acknowledged, and is requeued when the channel closes.
        reason, detail = _cause(error, reported=return_ok)
        event = "message_unfinished" if return_ok else "child_lost"
        log.error(event, reason=reason, task=self.task.name, message_id=self.id, retries=self._retries)
        if self._retries < self.task.max_retries:
            self._run_again()
        else:
            self._keep(reason, detail)

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001 - Celery's signature
        """Ignore a hard timeout: `on_failure` has handled it, and Celery would handle it twice."""
        if soft:
            super().on_timeout(soft, timeout)

    @property
    def _retries(self) -> int:
        return int(self.request_dict["retries"])

    def _run_again(self) -> None:
        """
        Publish the message again with its count, and only then acknowledge it.

        It goes to the end of its queue, so that other messages are processed first. It has no countdown, which would
        compare clocks.
        """
        try:
            with self.app.producer_or_acquire() as producer:
                producer.publish(
                    self._raw,
                    exchange="",
                    routing_key=self.delivery_info["routing_key"],
                    headers=self.message.headers | {"retries": self._retries + 1},
                    content_type="application/json",
                    content_encoding="utf-8",
                    retry=True,
                    retry_policy=PUBLISH_POLICY,
                )
        except Exception as error:  # noqa: BLE001 - whatever the broker's client raises
            log.warning("not_run_again", message_id=self.id, error=type(error).__name__)
            self.reject(requeue=True)
        else:
            self.acknowledge()

    def _keep(self, reason: str, detail: str) -> None:
        keep_or_requeue(
            Rejected(self.task.name, readable_body(self._raw), reason, detail=detail, message_id=self.id),
            kept=self.acknowledge,
            requeue=partial(self.reject, requeue=True),
        )


def _cause(error: BaseException, *, reported: bool) -> tuple[str, str]:
    """The reason for which the message is rejected in the end, and its detail. *reported*: by a child that lives."""
    if isinstance(error, UnfinishedError):
        return error.reason, error.detail
    # Celery's own code around the task failed, and nothing of ours could handle it.
    default = "failed" if reported else "worker_lost"
    return _REASONS.get(type(error), default), type(error).__name__
