"""
Frames about attempts, on their way from a link to the reports.

One about an attempt that this gateway did not hand over is looked up first: another gateway may have. Meanwhile those
behind it wait, so that their order is kept, and the link is not read.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Final, Protocol

import structlog

from gateway.links.jobs import Jobs
from gateway.listeners.transport import Transport
from gateway.wire.protocol_1 import Frame
from persistence.exceptions import CrawlyardError
from persistence.orders.attempts import OwnAttempts

log = structlog.get_logger()

_PAUSE_S: Final = 0.5


class Desk(Protocol):
    """The conversation over a link, seen by its inbox."""

    jobs: Jobs

    def report(self, frame: Frame) -> None:
        """Pass a frame on to the workers."""

    def acknowledge(self, id_: str | None) -> None:
        """Tell the crawler that a frame has been handled."""

    def refuse_frame(self, code: str, message: str, id_: str | None) -> None:
        """Tell the crawler that a frame is not passed on."""

    def fail(self) -> None:
        """Close the link because of a fault of ours."""

    async def own_attempts(self, ids: Collection[str]) -> OwnAttempts:
        """Look up which of these attempts are the connection's. Raises a TransientError."""


class Reading:
    """The reading of one link."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._reasons: set[str] = set()

    @property
    def is_paused(self) -> bool:
        """True if nothing is read now."""
        return bool(self._reasons)

    def pause(self, why: str) -> None:
        """Read nothing more, for this reason."""
        if not self._reasons:
            self._transport.pause_reading()
        self._reasons.add(why)

    def resume(self, why: str) -> None:
        """Read again, if there is no other reason not to."""
        if why in self._reasons:
            self._reasons.discard(why)
            if not self._reasons:
                self._transport.resume_reading()


class Inbox:
    """The frames of one link."""

    def __init__(self, desk: Desk, reading: Reading, on_empty: Callable[[], None]) -> None:
        self._desk = desk
        self._reading = reading
        self._on_empty = on_empty
        self._held: deque[Frame] = deque()
        self._looking: asyncio.Task[None] | None = None

    @property
    def is_empty(self) -> bool:
        """True if every frame has been passed on or answered."""
        return not self._held

    def take(self, frame: Frame) -> None:
        """Pass a frame on, or hold it until its attempt is known."""
        if not self._held and frame.job_id in self._desk.jobs:
            self._desk.report(frame)
            return
        self._held.append(frame)
        if self._looking is None:
            self._reading.pause("inbox")
            self._looking = asyncio.ensure_future(self._look())

    def cancel(self) -> None:
        """Drop what is held, at the end of the process."""
        if self._looking:
            self._looking.cancel()

    async def _look(self) -> None:
        while self._held:
            ids = {str(frame.job_id) for frame in self._held if frame.job_id not in self._desk.jobs}
            try:
                own = await self._desk.own_attempts(ids) if ids else OwnAttempts(frozenset(), frozenset())
            except CrawlyardError:  # the database is away
                await asyncio.sleep(_PAUSE_S)
                continue
            except Exception:
                log.exception("link_failed")
                self._desk.fail()
                return
            # What has come meanwhile is looked up in the next round.
            while self._held and (self._held[0].job_id in ids or self._held[0].job_id in self._desk.jobs):
                self._settle(self._held.popleft(), own)
        self._looking = None
        self._reading.resume("inbox")
        self._on_empty()

    def _settle(self, frame: Frame, own: OwnAttempts) -> None:
        if frame.job_id in own.live or frame.job_id in self._desk.jobs:
            self._desk.report(frame)
        elif frame.job_id in own.closed:
            self._desk.acknowledge(frame.id)
        else:
            self._desk.refuse_frame("unknown_job", "this jobId was never given to this connection", frame.id)
