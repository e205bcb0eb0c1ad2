"""Logs on standard error, one line per event. Event names are constant; ids are fields."""

import logging
import sys
import warnings
from typing import Any

import structlog
from celery.exceptions import CPendingDeprecationWarning
from celery.signals import setup_logging

from persistence.sanitize.text import redact_text

_SHARED = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso"),
)


class _Redacted(structlog.stdlib.ProcessorFormatter):
    """Redacts secrets from all log lines, including those of Celery and the texts of exceptions."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))


def shorten_failed_publish(record: logging.LogRecord) -> bool:
    """Cut beat's message on a failed publish to its first line: Celery adds two tracebacks each time."""
    if str(record.msg).startswith("Message Error: %s") and isinstance(record.args, tuple):
        record.msg, record.args = "Message Error: %s", record.args[:1]
        record.exc_info = record.exc_text = None
    return True


def install() -> None:
    """Format our logs, and those of Celery and its libraries, in one way."""
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    setup_logging.connect(_set_up)
    # Celery explains at each loss of the broker, in six lines, a setting that celeryconfig.py decides.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)


def _set_up(loglevel: int | str | None = None, **_: Any) -> None:
    """Set up the logs of a worker or beat. Celery does nothing itself if this signal has a receiver."""
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        _Redacted(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=_SHARED,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(loglevel or logging.INFO)
    logging.getLogger("celery.beat").addFilter(shorten_failed_publish)
    # "Task received" and "succeeded" would be most of the log: two lines per message.
    for chatty in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
