"""Which queue a task goes to, for the worker's settings and for producers alike."""

QUEUES = ("crawler", "dispatch", "upkeep")

DEFAULT_QUEUE = "dispatch"

ROUTES = {
    # All words of crawlers, and the sweep behind them: its verdict must not overtake their evidence.
    "crawler.*": {"queue": "crawler"},
    "connections.*": {"queue": "crawler"},
    "failures.*": {"queue": "crawler"},
    # No crawler's word, and it may take its time: none of theirs is to wait behind it.
    "failures.resolve": {"queue": "dispatch"},
    "jobs.*": {"queue": "dispatch"},
    # It calls a GitLab, which may take its time: the matchmaking must not wait behind it.
    "credentials.refresh": {"queue": "upkeep"},
    "credentials.*": {"queue": "dispatch"},
    "upkeep.*": {"queue": "upkeep"},
}

PUBLISH_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}
"""A publisher fails within seconds, also at a server that accepts and is silent."""
