"""The start, the forks and the stop of a worker, and its timer that publishes the sweep."""

import gc
import sys
import time
from typing import Any

import structlog
from billiard import pool
from celery import Celery, bootsteps, concurrency, signals

from persistence.db.engine import forget_connections
from persistence.exceptions import CrawlyardError, DatabaseLost, cause_of
from persistence.settings import settings
from tasks.own_celery import foreign_variables
from tasks.runtime import stopping
from tasks.start.broker_rights import PUBLISH, wait_for_rights, why_uncontrolled
from tasks.start.temporary_folder import why_no_temporary_folder
from tasks.worker import liveness, remote_control

log = structlog.get_logger()

SWEEP_TASK = "connections.expire_dead"

_OBJECTS_PER_COLLECTION = 50_000
"""A batch creates thousands, none in cycles: collecting at every 700 took a fifth of its CPU time."""

_WAITS_OF_LAST_RESULT = 20
"""
So often, each a tenth of a second, an ending pool child looks whether the worker has read its last result: a stopping
worker sometimes does not read it. By default it waits for half a minute, longer than supervisors do. Nothing depends on
the result: what it tells of is committed.
"""


def install(app: Celery) -> None:
    """Connect all of this to the workers of *app*."""
    concurrency.ALIASES["threads"] = "tasks.runtime.thread_pool:ThreadPool"
    signals.worker_init.connect(_begin)
    signals.beat_init.connect(_begin_beat)
    signals.worker_process_init.connect(_forked)
    signals.worker_shutting_down.connect(_stop)
    app.steps["worker"].add(StopStep)
    app.steps["consumer"].add(SweepTimer)
    remote_control.restrict()


def _begin(sender: Any, **_: Any) -> None:
    """
    Migrate if that is configured, and refuse to start on a database of another version.

    Celery logs what a signal's receiver raises and starts anyway, except for SystemExit. A database that is away does
    not stop the start: the tasks wait for it.
    """
    stopping.reset()
    pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = _WAITS_OF_LAST_RESULT
    _warn_of_variables()
    if (why := why_no_temporary_folder()) and "prefork" in str(sender.pool_cls):
        raise SystemExit(why)
    from persistence.migrations.head import check_head, check_rights, warning_of_start  # noqa: PLC0415 - only here is Alembic needed
    from persistence.migrations.run import migrate  # noqa: PLC0415

    try:
        if settings().migrate_on_start:
            migrate()
        check_rights()
        check_head()
        _say(warning_of_start())
    except DatabaseLost as error:
        if settings().migrate_on_start:
            raise SystemExit(f"The database could not be migrated: {cause_of(error) or error}") from error
        _say(f"the database cannot be used, and is waited for: {cause_of(error) or error}")
    except CrawlyardError as error:
        raise SystemExit(str(error)) from error
    except Exception as error:
        raise SystemExit(f"The database could not be checked: {type(error).__name__}: {error}") from error
    if why := why_uncontrolled():
        _say(why)
        sender.app.conf.worker_enable_remote_control = False


def _say(line: str) -> None:
    """Write a line to standard error: logs are not set up yet."""
    if line:
        sys.stderr.write(f"crawlyard: {line}\n")


def _begin_beat(**_: Any) -> None:
    _warn_of_variables()
    wait_for_rights(PUBLISH, liveness.refused, time.sleep)


def _warn_of_variables() -> None:
    """Say which of Celery's variables do not count. `crawlyard worker` and `crawlyard beat` have said so already."""
    if foreign := foreign_variables(settings().broker_url):
        log.warning("celery_variables_ignored", names=foreign)


def _forked(**_: Any) -> None:
    """Drop the parent's database connections in a child, and keep its garbage collector off the modules."""
    forget_connections()
    collect_garbage_rarely()


def collect_garbage_rarely() -> None:
    """Collect garbage rarely, and never among the objects that exist now."""
    gc.freeze()
    gc.set_threshold(_OBJECTS_PER_COLLECTION)


def _stop(**_: Any) -> None:
    stopping.stop()


class StopStep(bootsteps.StartStopStep):
    """
    Sets the stop flag when no signal does: on a remote shutdown, a restart by SIGHUP, or an error.

    Celery closes all steps before it stops any, and so before it waits for the pool.
    """

    def close(self, _worker: Any) -> None:
        """Set the stop flag."""
        _stop()


class SweepTimer(bootsteps.StartStopStep):
    """
    Publishes the sweep from the worker's own timer, so that sweeps continue without beat.

    It uses the event loop, not a thread: children may be forked at any time, and would inherit a lock that a thread
    holds. The broker's timeouts bound how long it can block the loop.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)
    _entry: Any = None

    def start(self, consumer: Any) -> None:
        """Start the timer. Celery does so again after each connection to the broker."""
        interval = settings().sweep_interval.total_seconds()
        self._entry = consumer.timer.call_repeatedly(interval, publish_sweep, (consumer.app,))

    def stop(self, consumer: Any) -> None:
        """Stop the timer, if it was started: the broker may have been lost before."""
        if self._entry is not None:
            consumer.timer.cancel(self._entry)
            self._entry = None


def publish_sweep(app: Celery) -> None:
    """Publish the sweep once. If that fails, it is only a warning: the timer publishes the next one."""
    try:
        app.send_task(SWEEP_TASK, retry=False)
    except Exception as error:  # noqa: BLE001 - whatever the broker's client raises
        log.warning("bell_lost", task=SWEEP_TASK, error=type(error).__name__)
