"""
Starts a worker or beat in this process, from any directory and with our own modules.

`celery -A tasks` looks for modules in the current directory first, where a foreign `tasks` or
`celeryconfig.py` may lie. Here nothing is found there.
"""

import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from socket import gethostname
from typing import Any

import click

from console.output.exit_codes import INTERRUPTED
from persistence.settings import settings


def start_worker(
    *, queues: Sequence[str], concurrency: int | None, pool: str, name: str | None, loglevel: str
) -> int:
    """Run a worker until it is told to stop; returns its exit code."""
    app = _app()
    _check(queues)
    _warn_root()
    worker = app.Worker(
        hostname=_node_name(name),
        queues=list(queues),
        concurrency=concurrency,
        pool_cls=pool,
        loglevel=loglevel,
        quiet=True,
        # Remote control stays; of other workers none of ours needs to know, and asking takes a second.
        without_gossip=True,
        without_mingle=True,
    )
    _leave_ignored(worker, "install_platform_tweaks")
    _greet(f"{worker.hostname} serves {', '.join(queues)}: {worker.concurrency} at a time, {pool}")
    with _interruption() as interrupted:
        worker.start()
    return INTERRUPTED if interrupted else worker.exitcode or 0


def start_beat(*, loglevel: str) -> None:
    """Run beat until it is told to stop. It keeps no file; many are as one."""
    app = _app()
    import_module("tasks.worker.liveness").begin_beat(app)
    _greet(f"beat rings {', '.join(sorted(app.conf.beat_schedule))}")
    beat = app.Beat(loglevel=loglevel, pidfile=None, schedule=None, quiet=True)
    _leave_ignored(beat, "install_sync_handler")
    beat.run()


def _app() -> Any:
    """
    The app, with everything of ours imported already.

    Celery imports by name what it is configured with, and looks in the current directory first.
    """
    settings()  # a wrong one ends it here, in one line
    import_module("celeryconfig")
    module = import_module("tasks.app")
    for module_name in module.TASK_MODULES:
        import_module(module_name)
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


def _leave_ignored(program: Any, installing: str) -> None:
    """
    Go on ignoring SIGINT where our parent made us ignore it, as a script does with a job that it starts with `&`.

    Celery handles SIGINT without looking, in the method *installing*: Ctrl-C at the script would end the job.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        return
    install = getattr(program, installing)

    def install_all_but_one(argument: object) -> None:
        install(argument)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    setattr(program, installing, install_all_but_one)


def _greet(text: str) -> None:
    """A line for people only; a log has its own."""
    if sys.stderr.isatty():
        click.echo(f"{text}; Ctrl-C stops it.", err=True)


def _warn_root() -> None:
    """In one line, instead of Celery's, which speaks of an option that there is not."""
    from celery.platforms import SecurityWarning  # noqa: PLC0415 - the app has loaded it

    warnings.simplefilter("ignore", SecurityWarning)
    if os.geteuid() == 0:
        click.echo("crawlyard: the worker runs as root; a user of its own would be safer.", err=True)


@contextmanager
def _interruption() -> Iterator[list[str]]:
    """Notes Ctrl-C: a worker ends in order then, and Celery calls that a failure."""
    from celery.signals import worker_shutting_down  # noqa: PLC0415 - the app has loaded it

    noted: list[str] = []

    def note(sig: str, **_: object) -> None:
        if sig == "SIGINT":
            noted.append(sig)

    worker_shutting_down.connect(note)
    try:
        yield noted
    finally:
        worker_shutting_down.disconnect(note)
