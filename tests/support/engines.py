"""The engine of the test process: made for each database, and given up with nothing left open."""

import threading

from console.checks.deadline import THREAD_NAME
from persistence.db.engine import engine, forget, is_made
from support.processes.workers import wait_until


def close_connections() -> None:
    """
    Close the engine's connections once no thread of the test uses it.

    A check that ran out of time, as on a busy machine, goes on in its thread, and may not have connected yet. A
    connection that is returned to a disposed pool is never closed, and reported in some later test.
    """
    if not is_made():
        return
    wait_until(
        lambda: not any(thread.name == THREAD_NAME for thread in threading.enumerate()),
        "abandoned checks have ended",
    )
    wait_until(
        lambda: not engine().pool.checkedout(),  # type: ignore[attr-defined]
        "threads of the test have given their connections back",
    )
    engine().dispose()


def forget_engine() -> None:
    """Close the connections; the next engine is made from the settings of then."""
    close_connections()
    forget()
