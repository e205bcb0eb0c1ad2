"""The Celery app: the one place where things are wired together."""

from celery import Celery

from tasks.runtime.task import UnitTask
from tasks.worker import lifecycle, liveness, logs, serialization, transport

TASK_MODULES = (
    "tasks.assign.rounds",
    "tasks.fleet.frames",
    "tasks.fleet.connections",
    "tasks.jobs.commands",
    "tasks.credentials.refresh",
    "tasks.credentials.renewed",
    "tasks.fleet.sweep",
    "tasks.error_log.log",
    "tasks.discovery.feed",
    "tasks.jobs.pausing",
    "tasks.jobs.enqueue",
    "tasks.error_log.resolve",
    "tasks.maintenance.statistics",
    "tasks.jobs.submit",
    "tasks.maintenance.reconcile",
    "tasks.maintenance.cleanup",
)

serialization.register()
transport.register()
app = Celery("crawlyard", task_cls=UnitTask, include=TASK_MODULES)
app.set_default()  # in every thread: tasks publish by way of the current app
app.config_from_object("celeryconfig")
lifecycle.install(app)
liveness.install()
logs.install()
