"""
The remote control commands of a worker, which any client of the broker may send.

Celery has more. `revoke`, and `hello` with a list of revoked tasks, drop messages unprocessed; `rate_limit`,
`cancel_consumer` and `pool_shrink` stop a worker that looks alive. They are disabled here.
"""

from dataclasses import dataclass
from typing import Any

from celery import Celery
from celery.worker.control import Panel

from persistence.version import version

ALLOWED = frozenset(
    {
        *("ping", "stats", "report", "conf", "clock", "registered", "active_queues"),
        *("active", "reserved", "scheduled", "revoked", "query_task"),
        # Like SIGTERM: running units finish, and nothing is lost.
        "shutdown",
    }
)


_OURS = "crawlyard"
"""What a worker of ours adds to its statistics; those of 0.4.1 and before add nothing."""

_ANSWER_S = 1.0


def restrict() -> None:
    """Remove all other commands from this process's worker, and let its statistics tell its version."""
    for name in Panel.data.keys() - ALLOWED:
        del Panel.data[name]
    Panel.data["stats"] = _stats


def _stats(state: Any, **_: Any) -> dict[str, Any]:
    return {**state.consumer.controller.stats(), _OURS: {"version": version()}}


@dataclass(frozen=True)
class WorkerAnswer:
    """A worker that answers remote control."""

    name: str
    version: str | None
    """None if it does not tell: it may be older than this version."""


def ask_workers(app: Celery) -> list[WorkerAnswer]:
    """Ask all workers that listen on the app's broker; those that do not answer within a second are left out."""
    with app.connection_for_write() as connection:
        listening = connection.default_channel.get_table(app.control.mailbox.exchange.name)
        if not listening:
            return []
        replies = app.control.broadcast(
            "stats", reply=True, timeout=_ANSWER_S, limit=len(listening), connection=connection
        )
    found = [_answer(name, stats) for reply in replies or () for name, stats in reply.items()]
    return sorted(found, key=lambda answer: answer.name)


def _answer(name: str, stats: Any) -> WorkerAnswer:
    ours = stats.get(_OURS) if isinstance(stats, dict) else None
    told = ours.get("version") if isinstance(ours, dict) else None
    return WorkerAnswer(name, told if isinstance(told, str) else None)
