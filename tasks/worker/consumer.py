"""
The worker's consumer: it rejects and acknowledges messages that no task can process.

Plain Celery logs such a message with its body, which may hold a secret, and drops it; some end the worker. Here each
is stored in `rejected_message`, and the log shows only the reason and the message's id.
"""

import logging
import time
from collections.abc import Callable, Container
from functools import partial
from typing import Any

import structlog
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.state import maybe_shutdown
from kombu.asynchronous import get_event_loop
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.exceptions import ConnectionError as BrokerLost

from persistence.settings import settings
from persistence.shortage import is_shortage
from tasks.routes import queue_of
from tasks.runtime import stopping
from tasks.runtime.reading.readable import readable_body, readable_text
from tasks.runtime.rejection import Rejected, keep_or_requeue
from tasks.start.broker_rights import CONSUME, FIRST_PAUSE_S, LONGEST_PAUSE_S, wait_for_rights
from tasks.worker import liveness
from tasks.worker.envelope import MalformedError, check_deliveries
from tasks.worker.records import WRAPPED
from tasks.worker.transport import MISREAD

logger = logging.getLogger(__name__)
log = structlog.get_logger()

_RECONNECT_POLICY = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 2}
"""Celery's own pauses grow to 30 s, for which workers would stay idle after a long outage."""

_SHORTAGE_PAUSE_S = 1.0


class Consumer(CeleryConsumer):
    """Passes valid messages on to Celery, and rejects all others."""

    _refusals = 0
    _refused_at = float("-inf")

    def start(self) -> None:
        """
        Run until the worker stops. A lack of descriptors or memory counts as a lost broker: it is connected to anew.

        Celery ends the worker if it finds no descriptor, and with it all running units.
        """
        start_steps = self.blueprint.start

        def start(consumer: Any) -> None:
            try:
                start_steps(consumer)
            except OSError as error:
                if not is_shortage(error):
                    raise
                log.warning("resources_short", why=error.strerror, retry_in_s=_SHORTAGE_PAUSE_S)
                stopping.wait(_SHORTAGE_PAUSE_S)
                raise BrokerLost(error.strerror) from None

        self.blueprint.start = start
        super().start()

    def connection_for_read(self, heartbeat: Any = None) -> Any:
        """Connect, and take no message before the broker permits all that is done with it."""
        wait_for_rights(CONSUME, liveness.refused, _pause)
        connection = super().connection_for_read(heartbeat)
        wait_for_rights(CONSUME, liveness.refused, _pause)  # it may not have answered before
        return connection

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Pause longer each time if the broker refuses a command: connecting again does not change that."""
        if not isinstance(exc, NoPermissionError):
            super().on_connection_error_after_connected(exc)
            return
        now = time.monotonic()
        self._refusals = self._refusals + 1 if now - self._refused_at < 2 * LONGEST_PAUSE_S else 0
        self._refused_at = now
        liveness.refused(str(exc))
        logger.error("the broker refuses a command: %s", exc)
        super().on_connection_error_after_connected(exc)
        _pause(min(FIRST_PAUSE_S << min(self._refusals, 5), LONGEST_PAUSE_S))

    def ensure_connected(self, conn: Any) -> Any:
        """Wait for the broker without limit, and retry often."""
        connect = partial(conn.ensure_connection, **_RECONNECT_POLICY)
        conn.ensure_connection = lambda errback, *args, **options: connect(_noting(errback), *args, **options)
        return super().ensure_connected(conn)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Celery's handler, called only for admitted messages."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> None:
            try:
                admit(message, self.app.tasks)
                handle(message)
            except MalformedError as error:
                self._keep(message, error.reason, str(error))
            except MISREAD as error:
                # No admitted message is known to do this; if one does, it must not end the worker.
                self._keep(message, "malformed", type(error).__name__)
            except (MemoryError, RuntimeError) as error:
                # Such as a thread that the system cannot start; the pool may run the message as well.
                self._requeue_later(message, error)

        return on_task_received

    def on_unknown_task(self, _body: object, message: Any, _error: object) -> None:
        """Reject a message for an unknown task."""
        self._keep(message, "unknown_task")

    def on_unknown_message(self, _body: object, message: Any) -> None:
        """Reject a message without a task."""
        self._keep(message, "malformed", "there is no task")

    def on_invalid_task(self, _body: object, message: Any, error: Exception) -> None:
        """Reject a message that Celery refuses."""
        self._keep(message, "malformed", type(error).__name__)

    def on_decode_error(self, message: Any, error: Exception) -> None:
        """Reject a message that kombu cannot decode; drop a control message, which is for no task."""
        if "task" in message.headers or message.content_type == WRAPPED:
            self._keep(message, "malformed", type(error).__name__)
        else:
            logger.warning("control message dropped: %s", type(error).__name__)

    def _requeue_later(self, message: Any, error: Exception) -> None:
        """Requeue a message for which there was no room, after a pause."""
        log.warning("resources_short", why=str(error) or type(error).__name__, retry_in_s=_SHORTAGE_PAUSE_S)
        loop = get_event_loop()
        assert loop is not None  # prefork, threads and solo all have one on Redis
        requeue = partial(message.reject_log_error, logger, self.connection_errors, requeue=True)
        loop.call_later(_SHORTAGE_PAUSE_S, lambda: message.acknowledged or requeue())

    def _keep(self, message: Any, reason: str, detail: str = "") -> None:
        if message.acknowledged:
            return
        keep_or_requeue(
            _rejected(message, reason, detail),
            kept=partial(message.ack_log_error, logger, self.connection_errors),
            requeue=partial(message.reject_log_error, logger, self.connection_errors, requeue=True),
        )


def _noting(errback: Callable[[Exception, float], None]) -> Callable[[Exception, float], None]:
    """Note that the broker refuses our user, which `crawlyard health --worker` then tells."""

    def note(error: Exception, interval: float) -> None:
        if isinstance(error, AuthenticationError | NoPermissionError):
            liveness.refused(f"the broker refuses: {error}")
        errback(error, interval)

    return note


def _pause(seconds: float) -> None:
    """Sleep, unless the worker is to stop."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        maybe_shutdown()
        time.sleep(0.1)


def is_served_by(task: str, queue: str) -> bool:
    """
    Return True if *queue* is the task's own.

    Rights on the broker are given by queue: whoever may push to one must not reach the tasks of another.
    """
    return queue_of(task) == queue


def admit(message: Any, tasks: Container[str]) -> None:
    """
    Raise MalformedError unless one of *tasks* may get this message; hide its body from Celery, which would parse it.

    Request passes the body on as bytes.
    """
    headers = message.headers
    if message.content_type == WRAPPED:
        raise MalformedError(headers["detail"], headers["reason"])
    check_deliveries(headers["deliveries"])
    if headers["deployment"] not in (None, settings().deployment):
        raise MalformedError("it names another deployment", "wrong_deployment")
    if headers["task"] in tasks and not is_served_by(headers["task"], message.delivery_info["routing_key"]):
        raise MalformedError(f"its queue is {queue_of(headers['task'])}", "wrong_queue")
    message._decoded_cache = ([], {}, {})  # noqa: SLF001 - kombu has no other way


def _rejected(message: Any, reason: str, detail: str) -> Rejected:
    """The message to store, with as much of it as can be read."""
    headers = message.headers
    if message.content_type == WRAPPED:
        return Rejected(
            None, readable_text(message.body), reason, detail=detail, message_id=headers.get("id")
        )
    return Rejected(
        headers["task"], readable_body(message.body), reason, detail=detail, message_id=headers["id"]
    )
