"""
Logs on standard error, one line per event. Event names are constant; ids are fields.

Workers, beat and gateways share this; `tasks/worker/logs.py` adds what Celery's own logs need.
"""

import logging
import sys
from typing import Final

import structlog

from persistence.sanitize.text import redact_text

_SHARED: Final = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso"),
)


class _Redacted(structlog.stdlib.ProcessorFormatter):
    """Redacts secrets from all log lines, including those of libraries and the texts of exceptions."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))


def configure() -> None:
    """Send what we log to the loggers of the standard library, which skip what is below their level."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def set_up(level: int | str) -> logging.Logger:
    """Format our logs, and those of libraries, in one way. Returns the root logger."""
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
    root.setLevel(level.upper() if isinstance(level, str) else level)
    return root
