"""
What a worker can be asked and told by remote control, which anybody on the broker may use.

Celery's own list goes further. `revoke`, and `hello` with a list in it, drop a message unhandled; `rate_limit`,
`cancel_consumer` and `pool_shrink` stop a worker that looks alive. They are unknown here.
"""

from celery.worker.control import Panel

ALLOWED = frozenset(
    {
        *("ping", "stats", "report", "conf", "clock", "registered", "active_queues"),
        *("active", "reserved", "scheduled", "revoked", "query_task"),
        # As SIGTERM: units are finished, nothing is lost.
        "shutdown",
    }
)


def restrict() -> None:
    """Let this process's worker know no other command."""
    for name in Panel.data.keys() - ALLOWED:
        del Panel.data[name]
