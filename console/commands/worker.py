"""
Runs a worker or beat in this process, from any directory and with Crawlyard's own modules.

`celery -A tasks` imports from the current directory first, which may contain a foreign `tasks` or
`celeryconfig.py`. This command never imports from it.
"""

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from socket import gethostname
from types import FrameType
from typing import Any

import click

from console.output.exit_codes import INTERRUPTED
from persistence.settings import settings


def start_worker(
    *, queues: Sequence[str], concurrency: int | None, pool: str, name: str | None, loglevel: str
) -> int:
    """Run a worker until a signal stops it, and return its exit code."""
    app = _app()
    _refuse_unknown(queues)
    _warn_root()
    worker = app.Worker(
        hostname=_node_name(name),
        queues=list(queues),
        concurrency=concurrency,
        pool_cls=pool,
        loglevel=loglevel,
        quiet=True,
        # Remote control stays on. A worker needs nothing from other workers, and asking them takes a second.
        without_gossip=True,
        without_mingle=True,
    )
    _leave_ignored(worker, "install_platform_tweaks")
    _greet(f"{worker.hostname} consumes {', '.join(queues)}, {worker.concurrency} tasks at a time ({pool})")
    with _noted_sigint() as sigint:
        worker.start()
    return INTERRUPTED if sigint else worker.exitcode or 0


def start_beat(*, loglevel: str) -> None:
    """Run beat until a signal stops it. It keeps no schedule file, and several beats publish no more than one."""
    app = _app()
    import_module("tasks.worker.liveness").begin_beat(app)
    _greet(f"beat publishes {', '.join(sorted(app.conf.beat_schedule))}")
    beat = app.Beat(loglevel=loglevel, pidfile=None, schedule=None, quiet=True)
    _end_after_round(beat)
    _leave_ignored(beat, "install_sync_handler")
    beat.run()


def _app() -> Any:
    """
    Return the Celery app, after importing all of Crawlyard's modules.

    Celery imports the modules of its configuration by name, from the current directory first.
    """
    own_celery = import_module("tasks.own_celery")
    if foreign := own_celery.foreign_variables(settings().broker_url):  # an invalid setting is reported here
        click.echo(f"crawlyard: {own_celery.describe_foreign(foreign)}", err=True)
    own_celery.drop_variables()
    import_module("celeryconfig")
    module = import_module("tasks.app")
    for module_name in module.TASK_MODULES:
        import_module(module_name)
    return module.app


def _refuse_unknown(queues: Sequence[str]) -> None:
    known = [queue.name for queue in import_module("celeryconfig").task_queues]
    if unknown := [name for name in queues if name not in known]:
        raise click.BadParameter(
            f"there is no queue {unknown[0]!r}; there are {', '.join(known)}", param_hint="--queues"
        )


def _node_name(name: str | None) -> str:
    """Return NAME@HOST; the default name is unique on this machine."""
    name = name or f"crawlyard-{os.getpid()}"
    return name if "@" in name else f"{name}@{gethostname()}"


def _leave_ignored(program: Any, installing: str) -> None:
    """
    Keep ignoring SIGINT if the parent process made us ignore it, as a script does with a job started by `&`.

    Celery installs its SIGINT handler unconditionally, in the method *installing*; then Ctrl-C at the script
    would end the job.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        return
    install = getattr(program, installing)

    def install_all_but_one(argument: object) -> None:
        install(argument)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    setattr(program, installing, install_all_but_one)


def _end_after_round(beat: Any) -> None:
    """
    Let beat stop at the latest after the current round of its loop.

    Celery's signal handler only raises SystemExit, wherever the main thread is. Where it is caught or ignored, as in
    a finalizer, it is lost, and the loop would go on.
    """
    install = beat.install_sync_handler

    def install_and_stop(service: Any) -> None:
        install(service)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop_and(service, signal.getsignal(number)))

    beat.install_sync_handler = install_and_stop


def _stop_and(service: Any, handler: Any) -> Callable[[int, FrameType | None], None]:
    def stop(number: int, frame: FrameType | None) -> None:
        service.stop()
        handler(number, frame)

    return stop


def _greet(text: str) -> None:
    """Print a line if a person is watching; a log file has its own first line."""
    if sys.stderr.isatty():
        click.echo(f"{text}. Press Ctrl-C to stop.", err=True)


def _warn_root() -> None:
    """Warn in one line. Celery's own warning names an option that this command does not have."""
    from celery.platforms import SecurityWarning  # noqa: PLC0415 - the app has loaded it

    warnings.simplefilter("ignore", SecurityWarning)
    if os.geteuid() == 0:
        click.echo("crawlyard: the worker runs as root; an unprivileged user is safer.", err=True)


@contextmanager
def _noted_sigint() -> Iterator[list[str]]:
    """Note SIGINT: after Ctrl-C a worker shuts down cleanly, but Celery's exit code says failure."""
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
