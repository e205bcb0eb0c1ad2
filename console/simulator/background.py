"""A simulation's own thread: it runs from `__enter__` to `__exit__`, and what ends it before is kept."""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

_JOIN_SECONDS = 10.0


class Background(ABC):
    """A thread. What went wrong in it is raised by `check`."""

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
        """Raise what has ended the thread, if anything has."""
        if self._failure:
            raise self._failure

    @abstractmethod
    def _run_loop(self) -> None:
        """What the thread does, until `_stop` is set."""

    def _run(self) -> None:
        try:
            self._run_loop()
        except Exception as error:  # noqa: BLE001 - told to whoever asks by `check`
            self._failure = error
