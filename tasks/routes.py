"""The queues and the routes of the tasks, shared by the worker's settings and by producers."""

from fnmatch import fnmatchcase
from functools import cache

QUEUES = ("crawler", "dispatch", "upkeep")

DEFAULT_QUEUE = "dispatch"

ROUTES = {
    # Everything that crawlers report, and the sweep: it must not overtake the reports that it judges by.
    "crawler.*": {"queue": "crawler"},
    "connections.*": {"queue": "crawler"},
    "failures.*": {"queue": "crawler"},
    # Not a crawler's report, and it may take long: reports must not wait for it.
    "failures.resolve": {"queue": "dispatch"},
    "jobs.*": {"queue": "dispatch"},
    "areas.*": {"queue": "dispatch"},
    # It calls a GitLab, which may take long: assignment must not wait for it.
    "credentials.refresh": {"queue": "upkeep"},
    "credentials.*": {"queue": "dispatch"},
    "upkeep.*": {"queue": "upkeep"},
}

WAKE_UP_CHANNEL = "crawlyard.orders"
"""The channel on which gateways are told to look for orders."""

PUBLISH_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}
"""Publishing fails within seconds, even if the server accepts the connection and then stays silent."""


@cache
def queue_of(task: str) -> str:
    """Return the queue of a task, by Celery's rules: its own route, else the first pattern that fits."""
    route = ROUTES.get(task) or next((ROUTES[name] for name in ROUTES if fnmatchcase(task, name)), None)
    return route["queue"] if route else DEFAULT_QUEUE
