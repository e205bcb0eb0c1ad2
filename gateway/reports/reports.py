"""
What links report, published in messages for the workers.

Used from the event loop's thread only. `run` publishes and looks up what was handled; everything else returns at once.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from gateway.reports.beats import Beats
from gateway.reports.broker import Broker, BrokerAwayError
from gateway.reports.handled import HandledMessages
from gateway.reports.in_flight import InFlight
from gateway.reports.marks import Marks
from gateway.reports.message import Message, batch
from gateway.reports.outbox import AttemptKey, Outbox
from gateway.wire.protocol_1 import Frame
from persistence.exceptions import CrawlyardError, TransientError
from persistence.schema.ids import ConnectionId

log = structlog.get_logger()

COLLECT_S: Final = 0.02
"""So long items are collected for a message, unless it is full before."""
LONGEST_COLLECT_S: Final = 0.25
LAG_SHARE: Final = 0.25
"""Where workers are behind, items are collected for this share of the time that a message takes: a longer wait that
hardly shows, for far fewer messages."""
_LAG_WEIGHT: Final = 0.2

MESSAGE_LINKS: Final = 500
PUBLISHED_AT_ONCE: Final = 16
"""Messages that one call of the broker publishes."""

LOOK_UP_S: Final = 0.03
LOOKED_UP_AT_ONCE: Final = 1000

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0

MAX_BYTES: Final = 64 * 1024 * 1024
"""Bytes of frames that are held for all links."""

MAX_LINK_BYTES: Final = 2 * 1024 * 1024
MAX_LINK_FRAMES: Final = 2000


class Reports:
    """
    Everything that is to be published for this gateway's links.

    *on_room* is called with a connection whose link may be read again after `add` has returned False.
    """

    def __init__(
        self,
        broker: Broker,
        handled: HandledMessages,
        *,
        on_room: Callable[[ConnectionId], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._broker = broker
        self._handled = handled
        self._on_room = on_room
        self._clock = clock
        self._links: list[bytes] = []
        self._beats = Beats()
        self._marks = Marks(self.has_unhandled)
        self._outbox = Outbox(self._marks.drained)
        self._in_flight = InFlight()
        self._stopped_reading: dict[ConnectionId, None] = {}
        self._work = asyncio.Event()
        """There is something to publish."""
        self._urgent = asyncio.Event()
        """There is something to publish at once."""
        self._sent = asyncio.Event()
        """There is something to look up."""
        self.is_broker_there = True
        self._lag_s = 0.0
        """How long a message takes until it is handled, in the mean of the last few."""

    # What links call

    def add(self, connection_id: ConnectionId, frame: Frame, on_handled: Callable[[], None]) -> bool:
        """
        Take a frame; *on_handled* is called once, when a worker has applied or rejected it.

        The frame is taken in any case. Returns False if its link must stop reading: too much is held of it, or of all.
        """
        key = AttemptKey(connection_id, frame.job_id)
        self._outbox.replaces = self._is_pressed
        self._outbox.add(key, frame.kind, frame.raw, _envelope(frame), on_handled)
        self._wake(urgent=self._outbox.is_full)
        has_room = self._has_room(connection_id)
        if not has_room:
            self._stopped_reading[connection_id] = None
        return has_room

    def beat(self, connection_id: ConnectionId, beat: Mapping[str, Any]) -> None:
        """Send a beat, with the fields of an item of `connections.heartbeat`; it replaces one that is not sent yet."""
        self._beats.add(connection_id, beat, self._clock())
        self._wake()

    def attach(self, link: Mapping[str, Any]) -> None:
        """Send that a connection is reached over a new link, with the fields of an item of `connections.attach`."""
        self._marks.attached(link["connection_id"])
        self._links.append(json.dumps(link).encode())
        self._wake(urgent=len(self._links) >= MESSAGE_LINKS)

    def lost(self, connection_id: ConnectionId, n: int, link: str) -> None:
        """Say that a link has ended without a goodbye, once nothing of its connection is unhandled."""
        self._beats.drop(connection_id)
        self._marks.lost(connection_id, n, link, self._clock())
        self._wake(urgent=True)

    def goodbye(self, connection_id: ConnectionId, reason: str | None = None) -> None:
        """Say that a connection has ended cleanly, once nothing of it is unhandled."""
        self._beats.drop(connection_id)
        self._marks.goodbye(connection_id, reason, self._clock())
        self._wake(urgent=True)

    def has_unhandled(self, connection_id: ConnectionId) -> bool:
        """True if a frame of the connection is not known to be handled."""
        return self._outbox.held_of(connection_id).frames > 0

    @property
    def held_bytes(self) -> int:
        """Bytes of all frames that are not known to be handled."""
        return self._outbox.held.bytes

    @property
    def dropped_marks(self) -> int:
        """How many connections' ends could not be said in time."""
        return self._marks.dropped

    # The process

    async def run(self) -> None:
        """Publish and look up what was handled, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish())
            tasks.create_task(self._look_up())

    async def flush(self, seconds: float) -> bool:
        """Publish everything, and wait until it is handled; False if that takes longer than *seconds*."""
        until = self._clock() + seconds
        self._wake(urgent=True)
        while self._is_busy:
            if self._clock() >= until:
                return False
            await asyncio.sleep(COLLECT_S / 4)
        return True

    @property
    def _is_busy(self) -> bool:
        return bool(
            self._links or self._beats or self._marks or self._outbox.held.frames or len(self._in_flight)
        )

    @property
    def collect_s(self) -> float:
        """For how long items are collected for a message."""
        return min(max(COLLECT_S, LAG_SHARE * self._lag_s), LONGEST_COLLECT_S)

    @property
    def _is_pressed(self) -> bool:
        return not self.is_broker_there or self._outbox.is_pressed

    def _has_room(self, connection_id: ConnectionId, times: int = 1) -> bool:
        """True if *times* what is held of a connection, and of all, is within the bounds."""
        own, all_ = self._outbox.held_of(connection_id), self._outbox.held
        return (
            times * own.frames <= MAX_LINK_FRAMES
            and times * own.bytes <= MAX_LINK_BYTES
            and times * all_.bytes <= MAX_BYTES
        )

    def _wake(self, *, urgent: bool = False) -> None:
        self._work.set()
        if urgent:
            self._urgent.set()

    async def _publish(self) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            messages = await self._next_messages()
            if not messages:
                continue
            try:
                await self._broker.publish(messages)
            except BrokerAwayError as error:
                self._in_flight.failed(messages)
                if self.is_broker_there:
                    log.warning("broker_away", why=str(error))
                self.is_broker_there = False
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                self._work.set()
            else:
                self._in_flight.published(messages, self._clock())
                if not self.is_broker_there:
                    log.info("broker_back")
                self.is_broker_there = True
                pause = _FIRST_PAUSE_S
            self._sent.set()

    async def _next_messages(self) -> Sequence[Message]:
        """Wait until there is something to publish, collect for a moment, and return it."""
        await self._work.wait()
        if not self._urgent.is_set():
            try:
                async with asyncio.timeout(self.collect_s):
                    await self._urgent.wait()
            except TimeoutError:
                pass
        return self._take()

    def _take(self) -> list[Message]:
        """Return the messages to publish now. The caller tells `_in_flight` what became of them."""
        self._work.clear()
        self._urgent.clear()
        now, limit = self._clock(), PUBLISHED_AT_ONCE
        messages = self._in_flight.take_again(now, limit)
        for take in (self._take_links, self._outbox.take, self._beats.take):
            messages += take(limit - len(messages))
        messages += self._marks.take(now, limit - len(messages))
        if self._links or self._beats or self._marks or self._outbox or self._in_flight.has_again:
            self._wake(urgent=True)
        self._in_flight.taken(messages)
        return messages

    def _take_links(self, limit: int) -> list[Message]:
        messages: list[Message] = []
        while self._links and len(messages) < limit:
            some, self._links = self._links[:MESSAGE_LINKS], self._links[MESSAGE_LINKS:]
            messages.append(Message("connections.attach", batch("links", some)))
        return messages

    async def _look_up(self) -> None:
        pause = LOOK_UP_S
        while True:
            if not self._in_flight:
                self._sent.clear()
                await self._sent.wait()
            await asyncio.sleep(pause)
            try:
                found = await self._handled.handled(self._in_flight.ids(LOOKED_UP_AT_ONCE))
            except CrawlyardError as error:
                if not isinstance(error, TransientError):
                    log.exception("look_up_failed")
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                continue
            pause = LOOK_UP_S
            self._settle(self._in_flight.handled(found))
            await self._repeat()

    async def _repeat(self) -> None:
        """Let messages be published again that have not been handled for too long."""
        if not self._in_flight.is_due(self._clock()):
            return
        try:
            is_empty = await self._broker.is_queue_empty()
        except BrokerAwayError:
            is_empty = True  # or its user may not ask: publishing will tell
        self._in_flight.repeat(self._clock(), is_queue_empty=is_empty)
        if self._in_flight.has_again:
            self._work.set()

    def _settle(self, messages: Sequence[Message]) -> None:
        now = self._clock()
        for message in messages:
            self._lag_s += _LAG_WEIGHT * (now - message.published_at - self._lag_s)
            try:
                message.on_handled()
            except Exception:  # a defect of one link must not stop the reports of all
                log.exception("settling_failed", message_id=message.id)
        if self._outbox or self._beats or self._marks:
            self._wake(urgent=self.collect_s <= COLLECT_S)
        for connection_id in [id_ for id_ in self._stopped_reading if self._has_room(id_, 2)]:
            del self._stopped_reading[connection_id]
            self._on_room(connection_id)


def _envelope(frame: Frame) -> Mapping[str, Any]:
    return {"type": frame.kind, "timestamp": frame.timestamp, "jobId": frame.job_id, "data": frame.data}
