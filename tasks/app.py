"""The Celery app; importing this module wires it together."""

from typing import Any

from persistence.settings import settings
from tasks.own_celery import OwnCelery
from tasks.runtime.task import UnitTask
from tasks.worker import lifecycle, liveness, logs, serialization, transport

TASK_MODULES = (
    "tasks.assign.rounds",
    "tasks.credentials.refresh",
    "tasks.credentials.renewed",
    "tasks.discovery.decide",
    "tasks.discovery.feed",
    "tasks.error_log.log",
    "tasks.error_log.resolve",
    "tasks.fleet.connections",
    "tasks.fleet.frames",
    "tasks.fleet.sweep",
    "tasks.fleet.links",
    "tasks.jobs.cancel",
    "tasks.jobs.enqueue",
    "tasks.jobs.pause",
    "tasks.jobs.prioritize",
    "tasks.jobs.resume",
    "tasks.jobs.retry",
    "tasks.jobs.submit",
    "tasks.maintenance.cleanup",
    "tasks.maintenance.reconcile",
    "tasks.maintenance.statistics",
)
"""The modules that declare tasks, by area."""


class App(OwnCelery):
    """An app whose messages name their deployment."""

    def send_task(self, name: str, *args: Any, headers: dict[str, Any] | None = None, **options: Any) -> Any:
        """Publish a task; `Task.apply_async` and beat do it here, too."""
        if deployment := settings().deployment:
            headers = {**(headers or {}), "deployment": deployment}
        return super().send_task(name, *args, headers=headers, **options)


serialization.register()
transport.register()
app = App("crawlyard", task_cls=UnitTask, include=TASK_MODULES)
app.set_default()  # for every thread: tasks publish through the current app
app.config_from_object("celeryconfig")
lifecycle.install(app)
liveness.install()
logs.install()
