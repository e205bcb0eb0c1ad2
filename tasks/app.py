"""The Celery app: the one place where things are wired together."""

from celery import Celery

from tasks import lifecycle, logs, serialization, transport, vital_signs
from tasks.base import UnitTask

AREAS = (
    "tasks.assignment",
    "tasks.callbacks",
    "tasks.connections",
    "tasks.control",
    "tasks.credentials",
    "tasks.expiry",
    "tasks.failures",
    "tasks.feeding",
    "tasks.pausing",
    "tasks.queueing",
    "tasks.resolution",
    "tasks.statistics",
    "tasks.submission",
    "tasks.upkeep",
)

serialization.register()
transport.register()
app = Celery("crawlyard", task_cls=UnitTask, include=AREAS)
app.config_from_object("celeryconfig")
lifecycle.install(app)
vital_signs.install()
logs.install()
