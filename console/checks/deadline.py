"""
Bounds how long we wait for a server, whatever is wrong with it: frozen, or behind a name that does not resolve.

Client timeouts do not cover every case. So the work runs in a daemon thread, which is abandoned when its
time is up and does not keep the process from exiting.
"""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

from persistence.exceptions import CrawlyardError

T = TypeVar("T")

THREAD_NAME = "crawlyard-check"


class NoAnswerError(CrawlyardError):
    """A server did not answer in time; the text names it."""


def begin(work: Callable[[], T]) -> "Future[T]":
    """Start *work* in a thread, and return a future for its result or exception."""
    future: Future[T] = Future()
    Thread(target=_fulfil, args=(future, work), name=THREAD_NAME, daemon=True).start()
    return future


def within(seconds: float, future: "Future[T]", name: str) -> T:
    """Return or raise what the work did. Raises NoAnswerError with *name* if it takes longer than that."""
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done():  # the work itself raised TimeoutError
            raise
        raise NoAnswerError(f"{name} has not answered in time.") from None


def _fulfil(future: "Future[T]", work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
        future.set_exception(error)
