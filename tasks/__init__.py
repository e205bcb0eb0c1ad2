"""
The Celery tasks.

`celery -A tasks worker` finds the app as `tasks.celery`. The app is created on first access, so that a web app that
imports `tasks.client` keeps its own Celery app, JSON and transport.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "celery":
        from tasks.app import app  # noqa: PLC0415 - see above

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
