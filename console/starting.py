"""
Starts a worker or beat in this process, from any directory and with our own modules.

`celery -A tasks` looks for modules in the current directory first, where a foreign `tasks` or
`celeryconfig.py` may lie. Here nothing is found there.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from socket import gethostname
from typing import Any

import click

from persistence.settings import settings


def start_worker(
    *, queues: Sequence[str], concurrency: int | None, pool: str, name: str | None, loglevel: str
) -> int:
    """Run a worker until it is told to stop; returns its exit code."""
    app = _app()
    _check(queues)
    worker = app.Worker(
        hostname=_node_name(name),
        queues=list(queues),
        concurrency=concurrency,
        pool_cls=pool,
        loglevel=loglevel,
        # Remote control stays; of other workers none of ours needs to know, and asking takes a second.
        without_gossip=True,
        without_mingle=True,
        **_looks(),
    )
    worker.start()
    return worker.exitcode or 0


def start_beat(*, loglevel: str) -> None:
    """Run beat until it is told to stop. It keeps no file; many are as one."""
    _app().Beat(loglevel=loglevel, pidfile=None, schedule=None, **_looks()).run()


def _app() -> Any:
    """
    The app, with everything of ours imported already.

    Celery imports by name what it is configured with, and looks in the current directory first.
    """
    settings()  # a wrong one ends it here, in one line
    import_module("celeryconfig")
    module = import_module("tasks.app")
    for area in module.AREAS:
        import_module(area)
    return module.app


def _check(queues: Sequence[str]) -> None:
    known = [queue.name for queue in import_module("celeryconfig").task_queues]
    if unknown := [name for name in queues if name not in known]:
        raise click.BadParameter(
            f"there is no queue {unknown[0]!r}; there are {', '.join(known)}", param_hint="--queues"
        )


def _node_name(name: str | None) -> str:
    """NAME@HOST; without a name one that no other worker of this machine has."""
    name = name or f"crawlyard-{os.getpid()}"
    return name if "@" in name else f"{name}@{gethostname()}"


def _looks() -> dict[str, Any]:
    """A banner for people only; in a log it would be noise."""
    is_terminal = sys.stdout.isatty()
    return {"quiet": not is_terminal, "no_color": not is_terminal or bool(os.environ.get("NO_COLOR"))}
