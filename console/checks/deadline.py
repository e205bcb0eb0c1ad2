"""
An end to waiting, whatever is wrong: a server that is frozen, a name that nobody resolves.

Timeouts of clients do not cover all of it. So the work is done in a thread of its own, which is
left behind when its time is up: it does not keep the process from ending.
"""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

from persistence.exceptions import CrawlyardError

T = TypeVar("T")


class NoAnswerError(CrawlyardError):
    """Something did not answer in time; the text says what."""


def begin(work: Callable[[], T]) -> "Future[T]":
    """Start *work* in a thread; its value, or what it raises, is the future's."""
    future: Future[T] = Future()
    Thread(target=_fulfil, args=(future, work), daemon=True).start()
    return future


def within(seconds: float, future: "Future[T]", name: str) -> T:
    """What the work returned or raised. Raises NoAnswerError, naming *name*, when it takes longer."""
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done():  # the work itself raised it
            raise
        raise NoAnswerError(f"{name} has not answered in time.") from None


def _fulfil(future: "Future[T]", work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - whoever waits shall have it
        future.set_exception(error)
