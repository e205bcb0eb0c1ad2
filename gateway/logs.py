"""Logs on standard error, one line per event, as the workers write them. No frame that is sent out is logged."""

import logging
import sys

import structlog

from persistence.sanitize.text import redact_text


class _Redacted(structlog.stdlib.ProcessorFormatter):
    """Redacts secrets from all log lines, including those of libraries and the texts of exceptions."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))


def install(level: str) -> None:
    """Format our logs and those of libraries in one way."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        _Redacted(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
