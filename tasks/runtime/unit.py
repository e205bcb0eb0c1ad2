"""The unit of work of a task, the id of its message, and how it publishes other tasks."""

from typing import Any

from celery import current_app, current_task
from ulid import ULID

from persistence import unit_of_work as persistence_unit
from persistence.unit_of_work import UnitOfWork
from tasks.wake_up import WakeUp

wake_gateways = WakeUp().send
"""Called after commits that concern gateways."""


def unit_of_work() -> UnitOfWork:
    """Begin a unit of work that publishes tasks through the current app."""
    return persistence_unit.unit_of_work(publish, wake_gateways)


def publish(task: str, arguments: dict[str, Any]) -> None:
    """Publish a task by name; times are sent as ISO 8601."""
    plain = {k: v.isoformat() if hasattr(v, "isoformat") else v for k, v in arguments.items()}
    current_app.send_task(task, kwargs=plain)


def message_id() -> str:
    """The id of the current message, the same at each delivery; a fresh one outside a worker."""
    return (current_task and current_task.request.id) or str(ULID())
