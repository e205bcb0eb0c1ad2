"""The Celery tasks. `celery -A tasks worker` finds the app here."""

from tasks.app import app as celery

__all__ = ["celery"]
