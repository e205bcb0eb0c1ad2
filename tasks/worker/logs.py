"""The logs of workers and beat: those of Celery are shortened."""

import logging
import warnings
from typing import Any

from celery.exceptions import CPendingDeprecationWarning
from celery.signals import setup_logging

from tasks.start import logs


def shorten_failed_publish(record: logging.LogRecord) -> bool:
    """Cut beat's message on a failed publish to its first line: Celery adds two tracebacks each time."""
    if str(record.msg).startswith("Message Error: %s") and isinstance(record.args, tuple):
        record.msg, record.args = "Message Error: %s", record.args[:1]
        record.exc_info = record.exc_text = None
    return True


def install() -> None:
    """Format our logs, and those of Celery and its libraries, in one way."""
    logs.configure()
    setup_logging.connect(_set_up)
    # Celery explains at each loss of the broker, in six lines, a setting that celeryconfig.py decides.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)


def _set_up(loglevel: int | str | None = None, **_: Any) -> None:
    """Set up the logs of a worker or beat. Celery does nothing itself if this signal has a receiver."""
    root = logs.set_up(loglevel or logging.INFO)
    logging.getLogger("celery.beat").addFilter(shorten_failed_publish)
    # "Task received" and "succeeded" would be most of the log: two lines per message.
    for chatty in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
