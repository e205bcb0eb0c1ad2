"""The Celery app; importing this module wires it together."""

from celery import Celery

from tasks.runtime.task import UnitTask
from tasks.worker import lifecycle, liveness, logs, serialization, transport

TASK_MODULES = (
    "tasks.assign.rounds",
    "tasks.credentials.refresh",
    "tasks.credentials.renewed",
    "tasks.discovery.feed",
    "tasks.error_log.log",
    "tasks.error_log.resolve",
    "tasks.fleet.connections",
    "tasks.fleet.frames",
    "tasks.fleet.sweep",
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

serialization.register()
transport.register()
app = Celery("crawlyard", task_cls=UnitTask, include=TASK_MODULES)
app.set_default()  # for every thread: tasks publish through the current app
app.config_from_object("celeryconfig")
lifecycle.install(app)
liveness.install()
logs.install()
