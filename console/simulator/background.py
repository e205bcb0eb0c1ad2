"""A thread of a simulation, which runs from `__enter__` to `__exit__` and keeps the exception that ended it."""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

_JOIN_SECONDS = 10.0


class Background(ABC):
    """A thread whose exception is raised by `check`."""

    def __init__(self, name: str) -> None:
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(_JOIN_SECONDS)

    def check(self) -> None:
        """Raise the exception that ended the thread, if there is one."""
        if self._failure:
            raise self._failure

    @abstractmethod
    def _run_loop(self) -> None:
        """Run in the thread, until `_stop` is set."""

    def _run(self) -> None:
        try:
            self._run_loop()
        except Exception as error:  # noqa: BLE001 - raised by `check`
            self._failure = error
