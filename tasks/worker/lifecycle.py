"""What a worker does beside its tasks: begin, fork, ring the sweep, and tell all who wait that it stops."""

import gc
from typing import Any

import structlog
from celery import Celery, bootsteps, signals

from persistence.db.engine import forget_connections
from persistence.exceptions import CrawlyardError, DatabaseLost
from persistence.settings import settings
from tasks.runtime import stopping
from tasks.worker import remote_control

log = structlog.get_logger()

SWEEP_TASK = "connections.expire_dead"

_OBJECTS_PER_COLLECTION = 50_000
"""A batch makes thousands, none of them in cycles: looking for garbage at each 700 cost a fifth of its CPU."""


def install(app: Celery) -> None:
    """Bind all of this to the workers of *app*."""
    signals.worker_init.connect(_begin)
    signals.worker_process_init.connect(_forked)
    signals.worker_shutting_down.connect(_stop)
    app.steps["worker"].add(StopStep)
    app.steps["consumer"].add(SweepTimer)
    remote_control.restrict()


def _begin(**_: Any) -> None:
    """
    Migrate first, where that is asked for, and refuse to begin on a database of another version.

    Celery logs what a signal's receiver raises and goes on, which here would mean: with that database.
    SystemExit passes. A database that is away is waited for by whoever needs it.
    """
    stopping.reset()
    from persistence.migrations.head import check_head  # noqa: PLC0415 - Alembic is loaded here alone
    from persistence.migrations.run import migrate  # noqa: PLC0415

    try:
        if settings().migrate_on_start:
            migrate()
        check_head()
    except DatabaseLost as error:
        if settings().migrate_on_start:
            raise SystemExit(f"The database could not be migrated: {error}") from error
        log.warning("database_lost", why=str(error))
    except CrawlyardError as error:
        raise SystemExit(str(error)) from error


def _forked(**_: Any) -> None:
    """A forked child must not speak on its parent's database connections, nor look for garbage in its modules."""
    forget_connections()
    collect_garbage_rarely()


def collect_garbage_rarely() -> None:
    """Look for garbage once in so many objects, and not among those that there are."""
    gc.freeze()
    gc.set_threshold(_OBJECTS_PER_COLLECTION)


def _stop(**_: Any) -> None:
    stopping.stop()


class StopStep(bootsteps.StartStopStep):
    """
    Raises the flag where no signal does: a shutdown by remote control, a restart by SIGHUP, an error.

    Closing comes before any step is stopped, so before the pool is waited for.
    """

    def close(self, _worker: Any) -> None:
        """Tell all who wait that the worker stops."""
        _stop()


class SweepTimer(bootsteps.StartStopStep):
    """
    Rings the sweep from the worker's own timer, so that it goes on where beat is silent.

    From the event loop and not from a thread, since children are forked at any time and would inherit a
    lock that a thread holds. The broker's timeouts bound how long the loop can be held up.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)
    _entry: Any = None

    def start(self, consumer: Any) -> None:
        """Ring from now on. Celery starts this anew with each connection to the broker."""
        interval = settings().sweep_interval.total_seconds()
        self._entry = consumer.timer.call_repeatedly(interval, publish_sweep, (consumer.app,))

    def stop(self, consumer: Any) -> None:
        """Ring no more; where the broker was lost before all steps had started, there is nothing to stop."""
        if self._entry is not None:
            consumer.timer.cancel(self._entry)
            self._entry = None


def publish_sweep(app: Celery) -> None:
    """Ring the sweep once. That it cannot be rung is a warning: the next one will."""
    try:
        app.send_task(SWEEP_TASK, retry=False)
    except Exception as error:  # noqa: BLE001 - whatever the broker's client raises
        log.warning("bell_lost", task=SWEEP_TASK, error=type(error).__name__)
