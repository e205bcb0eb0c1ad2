"""
Follows events as they are committed: woken up by NOTIFY without relying on it, from one cursor on.

LISTEN needs a session of its own. Behind a pooler it would stay in a session that the pooler then gives to other
clients, so a subscription that is pooled does not listen and polls more often. CRAWLYARD_DIRECT_DATABASE_URL
bypasses the pooler.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from threading import Event as Flag
from types import TracebackType
from typing import Any, LiteralString, Self

import psycopg

from persistence.db.pooler import is_pooled
from persistence.db.session import connect, limit_session
from persistence.db.sqlstate import translate_errors
from persistence.events.cursor import EventCursor
from persistence.events.stream import Event, EventFilter, EventReader, Gap
from persistence.exceptions import TransientError
from persistence.settings import settings

_LISTEN: LiteralString = "LISTEN crawlyard_event"

_POLL_S = 5.0
"""The longest delay of an event whose notification is lost."""
_POOLED_POLL_S = 1.0
"""The same without LISTEN."""
_HELD_BACK_S = (0.02, 1.0)
"""Between polls while a running transaction holds events back: doubled from the first value to the last."""
_RECONNECT_S = (0.1, 10.0)
_SLICE_S = 0.25
"""How soon a `close` from another thread takes effect."""


class Subscription:
    """
    An iterator over events and gaps from a starting point on, each once and in order.

    It ends on `close`, from any thread, or after *within*. Raises DatabaseLost if the first connection fails. A
    connection that is lost later is reopened for as long as it takes, and *lost* is called with the error. Store
    `cursor` after the items it yielded are handled.
    """

    def __init__(
        self,
        point: EventCursor | str,
        matching: EventFilter | None = None,
        *,
        within: timedelta | None = None,
        url: str | None = None,
        lost: Callable[[TransientError], None] = lambda _error: None,
    ) -> None:
        self._point = point
        self._matching = matching
        self._deadline = None if within is None else time.monotonic() + within.total_seconds()
        self._url = url or settings().session_url
        self._lost = lost
        self._closed = Flag()
        self._connection: psycopg.Connection[Any] | None = None
        self._poll_s = _POLL_S
        self._pause = _Backoff(*_HELD_BACK_S)
        self._back_off = _Backoff(*_RECONNECT_S)

    @property
    def cursor(self) -> EventCursor | None:
        """The position after the last item; None before the first connection if it starts at `now`."""
        return self._point if isinstance(self._point, EventCursor) else None

    def close(self) -> None:
        """End the iteration, soon."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()
        self._disconnect()

    def __iter__(self) -> Iterator[Event | Gap]:
        try:
            reader: EventReader | None = self._connect()
            while not self._is_over():
                try:
                    reader = reader or self._connect()
                    yield from self._read_page(reader)
                    self._back_off.reset()
                except TransientError as error:
                    reader = None
                    self._disconnect()
                    self._lost(error)
                    self._closed.wait(self._left(self._back_off.next()))
        finally:
            self._disconnect()

    def so_far(self) -> Iterator[Event | Gap]:
        """Everything that can be read now, without waiting for more."""
        reader = self._connect()
        assert isinstance(self._point, EventCursor)
        for item in reader.read(self._point):
            self._point = item.cursor
            yield item

    def _connect(self) -> EventReader:
        """Listen before the first read, so that an event committed in between wakes the reader up."""
        with translate_errors():
            self._connection = connect(self._url, application_name="crawlyard events")
            pooled = is_pooled(self._connection)
            self._poll_s = _POOLED_POLL_S if pooled else _POLL_S
            if not pooled:
                limit_session(self._connection)
                self._connection.execute(_LISTEN)
        reader = EventReader(self._connection, self._matching)
        self._point = reader.start(self._point)
        return reader

    def _disconnect(self) -> None:
        if self._connection:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def _read_page(self, reader: EventReader) -> Iterator[Event | Gap]:
        """Yield one page; if there was no more to read, wait for a notification or the next poll."""
        assert isinstance(self._point, EventCursor)
        page = reader.page(self._point)
        for item in page.items:
            self._point = item.cursor
            yield item
        self._point = page.cursor
        if page.is_full:
            return
        if page.items or not page.is_held_back:
            self._pause.reset()
        self._wait(self._pause.next() if page.is_held_back else self._poll_s)

    def _wait(self, seconds: float) -> None:
        """Wait for a notification, at most this long. Notifications that arrived meanwhile count as one."""
        assert self._connection is not None
        until = time.monotonic() + seconds
        while (left := self._left(until - time.monotonic())) > 0 and not self._closed.is_set():
            with translate_errors():
                if list(self._connection.notifies(timeout=min(left, _SLICE_S), stop_after=1)):
                    return

    def _left(self, seconds: float) -> float:
        """The shorter of *seconds* and the time until the subscription ends."""
        return seconds if self._deadline is None else min(seconds, self._deadline - time.monotonic())

    def _is_over(self) -> bool:
        return self._closed.is_set() or self._left(1.0) <= 0


class _Backoff:
    """A wait that doubles from the first length to the last."""

    def __init__(self, first: float, last: float) -> None:
        self._first = self._now = first
        self._last = last

    def reset(self) -> None:
        """Start with the first length again."""
        self._now = self._first

    def next(self) -> float:
        """The length of the next wait."""
        now, self._now = self._now, min(2 * self._now, self._last)
        return now
