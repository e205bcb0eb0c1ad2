"""Logs: one line an event, on standard error; the names of events are constant, ids are fields."""

import logging
import sys
from typing import Any

import structlog
from celery.signals import setup_logging

from persistence.sanitize.text import redact_text

_SHARED = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso"),
)


class _Redacted(structlog.stdlib.ProcessorFormatter):
    """What is logged holds no secret, whoever logs it: also Celery, and the text of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))


def install() -> None:
    """Send our logs, and those of Celery and its libraries, through one formatter."""
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    setup_logging.connect(_set_up)


def _set_up(loglevel: int | str | None = None, **_: Any) -> None:
    """What a worker or beat logs; Celery sets nothing up where this signal has a receiver."""
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
    # "Task received" and "succeeded", twice a message, would be most of the log.
    for chatty in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
