"""
The remote control commands of a worker, which any client of the broker may send.

Celery has more. `revoke`, and `hello` with a list of revoked tasks, drop messages unprocessed; `rate_limit`,
`cancel_consumer` and `pool_shrink` stop a worker that looks alive. They are disabled here.
"""

from celery.worker.control import Panel

ALLOWED = frozenset(
    {
        *("ping", "stats", "report", "conf", "clock", "registered", "active_queues"),
        *("active", "reserved", "scheduled", "revoked", "query_task"),
        # Like SIGTERM: running units finish, and nothing is lost.
        "shutdown",
    }
)


def restrict() -> None:
    """Remove all other commands from this process's worker."""
    for name in Panel.data.keys() - ALLOWED:
        del Panel.data[name]
