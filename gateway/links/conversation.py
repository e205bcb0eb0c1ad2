"""What a crawler that is welcome says, and what it is told."""

from collections.abc import Collection, Iterable
from functools import partial
from typing import Any, Final, Protocol

from gateway.links.claim import Claim
from gateway.links.context import Context
from gateway.links.hello import Identity, capacity_of
from gateway.links.inbox import Inbox, Reading
from gateway.links.jobs import Jobs
from gateway.links.signs import Beats, Pings
from gateway.listeners.transport import Transport
from gateway.metrics import metrics
from gateway.wire import answers
from gateway.wire.protocol_1 import Frame
from persistence.orders.attempts import OwnAttempts
from persistence.orders.hand_over import Order

BAD_FRAMES: Final = 30
"""Frames that may be refused within BAD_FRAMES_S."""
BAD_FRAMES_S: Final = 60.0
MAX_NONCE: Final = 64


class Speaker(Protocol):
    """A link, seen by its conversation."""

    @property
    def is_open(self) -> bool:
        """True if it is the newest link of its connection."""

    @property
    def is_closed(self) -> bool:
        """True if its socket is closed."""

    def leave(self, reason: str | None) -> None:
        """Take the crawler's goodbye."""

    def stop(self, code: str, message: str) -> None:
        """Tell the crawler why its link is closed, and close it."""

    def settled(self) -> None:
        """Note that a frame has been handled, or that none is held any more."""


class Conversation:
    """The conversation over one link."""

    def __init__(
        self,
        link: Speaker,
        transport: Transport,
        context: Context,
        *,
        claim: Claim,
        identity: Identity,
        reading: Reading,
        jobs: Jobs,
    ) -> None:
        now = context.clock()
        self.jobs = jobs
        self.pings = Pings(now)
        self._link = link
        self._transport = transport
        self._context = context
        self._connection_id = claim.connection_id
        self._identity = identity
        self._reading = reading
        self._beats = Beats(claim.connection_id, jobs, claim.capacity, context.heartbeat_interval)
        self._inbox = Inbox(self, reading, link.settled)
        self._bad = 0
        self._bad_since = now

    # What the crawler says

    def take(self, frame: Frame) -> None:
        """Take a frame."""
        if frame.is_about_job:
            if frame.is_end and frame.job_id:
                self.jobs.report_end(frame.job_id, frame.kind)
            self._inbox.take(frame)
            return
        match frame.kind:
            case "heartbeat":
                self._pass_beat_on(frame.data)
            case "job_request":
                self._set_capacity(frame.data.get("capacity"))
            case "ping":
                nonce = frame.data.get("nonce")
                if isinstance(nonce, str) and len(nonce) <= MAX_NONCE:
                    self._transport.send(answers.pong(nonce))
            case "pong":
                self.pings.answered(frame.data.get("nonce"), self._context.clock())
            case "goodbye":
                reason = frame.data.get("reason")
                self._link.leave(reason if isinstance(reason, str) else None)
            case "hello":
                self.refuse_frame("invalid", "hello: only the first frame is one", frame.id)
                return
        self.acknowledge(frame.id)

    def _pass_beat_on(self, data: dict[str, Any]) -> None:
        if self._link.is_open:
            now, lists = self._context.clock(), self._context.orders.is_current
            self._context.reports.beat(self._connection_id, self._beats.of_crawler(data, now, lists=lists))

    def _set_capacity(self, asked: int | None) -> None:
        if self._link.is_open:
            if asked is not None:
                self._beats.capacity = capacity_of(asked, self._identity)
            self.beat()

    def beat(self) -> None:
        """Say that the crawler lives."""
        self._context.reports.beat(self._connection_id, self._beats.plain())

    # Its frames about attempts, as its inbox passes them on

    def report(self, frame: Frame) -> None:
        """Pass a frame on to the workers."""
        on_handled = partial(self._frame_handled, frame.id, self._listed_end(frame))
        if not self._context.reports.add(self._connection_id, frame, on_handled):
            self._reading.pause("reports")

    def _listed_end(self, frame: Frame) -> str | None:
        """Return the job that a frame ends, if the crawler has just listed it."""
        is_listed = frame.is_end and self._beats.names_lately(frame.job_id or "", self._context.clock())
        return frame.job_id if is_listed else None

    def _frame_handled(self, id_: str | None, listed_end: str | None) -> None:
        self.acknowledge(id_)
        if listed_end and self._link.is_open and self._context.orders.is_current:
            beat = self._beats.without(listed_end, self._context.clock())
            self._context.reports.beat(self._connection_id, beat)
        self._link.settled()

    def acknowledge(self, id_: str | None) -> None:
        """Tell the crawler that a frame has been handled; over its newest link, if this one is closed."""
        if id_ is None:
            return
        if not self._link.is_closed:
            metrics.count("acknowledged")
            self._transport.send(answers.ack(id_))
            return
        for link in self._context.neighbours.of(self._connection_id):
            if link.is_open:
                link.acknowledge(id_)

    def refuse_frame(self, code: str, message: str, id_: str | None) -> None:
        """Tell the crawler that a frame is not passed on; too many of them close the link."""
        now = self._context.clock()
        if now - self._bad_since > BAD_FRAMES_S:
            self._bad, self._bad_since = 0, now
        self._bad += 1
        if self._bad > BAD_FRAMES:
            self._link.stop("too_many_bad_frames", f"more than {BAD_FRAMES} frames of a minute were refused")
        elif not self._link.is_closed:
            metrics.refused(code)
            self._transport.send(answers.error(code, message, closes=False, id_=id_))

    def fail(self) -> None:
        """Close the link because of a fault of ours."""
        self._link.stop("internal", "a fault of the gateway")

    async def own_attempts(self, ids: Collection[str]) -> OwnAttempts:
        """Look up which of these attempts are the connection's. Raises a TransientError."""
        return await self._context.orders.attempts_of(self._connection_id, ids)

    @property
    def holds_frames(self) -> bool:
        """True if frames wait until their attempts are known."""
        return not self._inbox.is_empty

    @property
    def is_settled(self) -> bool:
        """True if everything that the crawler has sent is handled."""
        return self._inbox.is_empty and not self._context.reports.has_unhandled(self._connection_id)

    # What it is told

    def hand_over(self, orders: Iterable[Order]) -> None:
        """Hand orders over that the crawler does not have yet."""
        if new := self.jobs.hand_over(orders, self._context.clock()):
            metrics.count("orders_handed_over", len(new))
            self._transport.send(answers.job_response(new))

    def end(self, job_id: str, reason: str) -> None:
        """Take the end of an attempt, and tell the crawler if it does not know it."""
        if self.jobs.end(job_id):
            metrics.count("orders_revoked")
            self._transport.send(answers.job_revoked(job_id, reason))

    def ping(self, *, soon: bool = False) -> None:
        """Ask the crawler to answer, if it has not for a while or at once."""
        nonce = self.pings.due(self._context.clock(), soon=soon)
        if nonce and not self._transport.ping():
            self._transport.send(answers.ping(nonce))

    def check_pings(self, now: float) -> None:
        """Close the link if a ping was not answered in time; else ask again if it is time."""
        if self._reading.is_paused:
            self.pings.excuse(1)
        elif self.pings.is_overdue(now):
            self._link.stop("no_pong", "a ping was not answered in time")
            return
        self.ping()
