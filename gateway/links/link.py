"""
One link: a socket with a crawler at its other end.

    CONNECTED ── hello ──► ENTERING ── welcome ──► OPEN ──► LEAVING ──► CLOSED
                                                     └────► SUPERSEDED ──► CLOSED

A link that is superseded is read on for a moment: what its crawler had sent before it came back is applied.
"""

import asyncio
from collections.abc import Collection, Iterable
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.links.beats import Beats
from gateway.links.context import Context
from gateway.links.entrance import Entrance, NotResumableError
from gateway.links.hello import Hello, Identity, RefusedLinkError, capacity_of, read_hello
from gateway.links.inbox import Inbox
from gateway.links.jobs import Jobs
from gateway.links.pings import Pings
from gateway.listeners.peer import Peer
from gateway.listeners.transport import HELLO_BYTES, Transport
from gateway.metrics import metrics
from gateway.wire import answers
from gateway.wire.protocol_1 import Frame, RefusedFrameError, parse
from persistence.orders.attempts import OwnAttempts
from persistence.orders.hand_over import Order
from persistence.orders.links import LinkRow

if TYPE_CHECKING:
    from gateway.links.claim import Claim

log = structlog.get_logger()

FRAME_BYTES: Final = 1024**2
DISCOVERY_BYTES: Final = 8 * 1024**2

HELLO_S: Final = 10.0
READ_ON_S: Final = 2.0
"""For how long a superseded link is read on."""
LEAVE_S: Final = 10.0
"""For how long acknowledgements are waited for after a goodbye."""

ATTACH_S: Final = 30.0
"""For how long it may take until a link is attached whose socket is closed."""

EARLY_FRAMES: Final = 100
BAD_FRAMES: Final = 30
"""Frames that may be refused within BAD_FRAMES_S."""
BAD_FRAMES_S: Final = 60.0
MAX_NONCE: Final = 64


class State(Enum):
    """How far a link is."""

    CONNECTED = auto()
    ENTERING = auto()
    OPEN = auto()
    LEAVING = auto()
    SUPERSEDED = auto()
    CLOSED = auto()


class Link:
    """A link; `gateway/listeners` calls it as the Receiver of its socket."""

    def __init__(self, transport: Transport, context: Context) -> None:
        now = context.clock()
        self.state = State.CONNECTED
        self.hello: Hello | None = None
        self.identity: Identity | None = None
        self.claim: Claim | None = None
        self.is_said = False
        """True once `connections.attach` was published: the row may name this link."""
        self.jobs = Jobs()
        self._transport = transport
        self._context = context
        self._entrance = Entrance(self, context)
        self._entering: asyncio.Task[None] | None = None
        self._early: list[bytes] = []
        self._inbox = Inbox(self, self._on_handled)
        self._pauses: set[str] = set()
        self._pings = Pings(now)
        self._beats: Beats | None = None
        self._deadline: float | None = now + HELLO_S
        self._bad = 0
        self._bad_since = now
        self._is_closing = False
        self._ended: set[str] = set()
        """Attempts that were closed while the link entered."""

    @property
    def is_stranger(self) -> bool:
        """True if it is open and has said no hello yet, or waits to be known."""
        return self.claim is None and self.state is not State.CLOSED

    @property
    def is_open(self) -> bool:
        """True if its crawler is welcome, and it is the newest link of its connection."""
        return self.state is State.OPEN

    @property
    def has_jobs(self) -> bool:
        """True if its jobs are known."""
        return self.state in (State.OPEN, State.SUPERSEDED)

    # What the listener calls

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""
        return self._transport.peer

    @property
    def frame_limit(self) -> int:
        """Bytes that a frame may have now."""
        if self.state in (State.CONNECTED, State.ENTERING):
            return HELLO_BYTES
        return DISCOVERY_BYTES if self.jobs.may_discover else FRAME_BYTES

    def frame_received(self, frame: bytes) -> None:
        """Take a frame."""
        metrics.count("frames_in")
        if self._is_closing:
            return
        if self.state is State.ENTERING:
            self._early.append(frame)
            if len(self._early) > EARLY_FRAMES:
                self.stop("hello_expected", "nothing may be sent between hello and welcome")
        elif self.state in (State.CONNECTED, State.OPEN, State.SUPERSEDED):
            self._take(frame)

    def ponged(self) -> None:
        """Note that the peer has answered a ping of the socket's own."""
        self._pings.answer(self._context.clock())

    def broken(self, code: str, message: str) -> None:
        """Answer with an error, and close. The socket has counted it."""
        self.stop(code, message, counts=False)

    def closed(self, error: Exception | None) -> None:  # noqa: ARG002 - whatever it was, the link is gone
        """Note that the socket is closed."""
        state, self.state = self.state, State.CLOSED
        if self._entering:
            self._entering.cancel()
        self._early.clear()
        self._deadline = None
        self._is_closing = True
        if state is State.ENTERING and self.is_said:
            # It may be attached only now: said before that, its end would have no effect.
            self._deadline = self._context.clock() + ATTACH_S
            return
        if state is State.OPEN and self._inbox.is_empty:
            self.say_lost()
        if self.claim:
            self._context.neighbours.leave(self)

    # Entering

    def _take(self, raw: bytes) -> None:
        try:
            frame = parse(raw)
        except RefusedFrameError as error:
            self.refuse_frame(error.code, str(error), error.id)
            return
        if self.state is State.CONNECTED:
            self._say_hello(frame)
        else:
            self._dispatch(frame)

    def _say_hello(self, frame: Frame) -> None:
        if frame.kind != "hello":
            self.stop("hello_expected", "the first frame must be a hello")
            return
        try:
            self.hello = read_hello(frame.data)
        except RefusedLinkError as error:
            self.stop(error.code, str(error))
            return
        self.state = State.ENTERING
        self._deadline = None
        self.pause("entering")
        self._entering = asyncio.ensure_future(self._enter(self.hello))

    async def _enter(self, hello: Hello) -> None:
        try:
            orders = await self._entrance.enter(hello)
        except RefusedLinkError as error:
            self.stop(error.code, str(error), error.retry_after)
        except NotResumableError:
            self.stop("internal", "a new connection could not be opened", 1)
        except Exception:
            log.exception("link_failed")
            self.stop("internal", "a fault of the gateway", 1)
        else:
            self._open(hello, orders)
        finally:
            self._entering = None

    def _open(self, hello: Hello, orders: list[Order]) -> None:
        claim, now = self.claim, self._context.clock()
        assert claim
        self.state = State.OPEN
        self._pings = Pings(now)
        self._transport.authenticated()
        for older in self._context.neighbours.of(claim.connection_id):
            if older is not self and older.has_jobs:
                self.jobs = older.jobs
        orders = [order for order in orders if order.crawler_job_id not in self._ended]
        self.jobs.replace(orders, now)
        self._beats = Beats(claim.connection_id, self.jobs, claim.capacity, self._context.heartbeat_interval)
        self._transport.send(
            answers.welcome(
                claim.connection_id, claim.session, orders, self._context.heartbeat_interval, FRAME_BYTES
            )
        )
        metrics.count("links_welcomed")
        if hello.session == claim.session:
            metrics.count("links_resumed")
        else:
            self._context.neighbours.greet(self)
        log.info("link_open", connection_id=claim.connection_id, n=claim.n, crawler_id=claim.crawler_id)
        early, self._early = self._early, []
        for raw in early:
            self.frame_received(raw)
        self.resume("entering")

    # Frames of a crawler that is known

    def _dispatch(self, frame: Frame) -> None:
        if frame.is_about_job:
            if frame.is_end and frame.job_id:
                self.jobs.report_end(frame.job_id, frame.kind)
            self._inbox.take(frame)
            return
        match frame.kind:
            case "heartbeat":
                self._say_beat(frame.data)
            case "job_request":
                self._set_capacity(frame.data.get("capacity"))
            case "ping":
                nonce = frame.data.get("nonce")
                if isinstance(nonce, str) and len(nonce) <= MAX_NONCE:
                    self._transport.send(answers.pong(nonce))
            case "pong":
                self._pings.answered(frame.data.get("nonce"), self._context.clock())
            case "goodbye":
                self._leave(frame.data.get("reason"))
            case "hello":
                self.refuse_frame("invalid", "hello: only the first frame is one", frame.id)
                return
        self.acknowledge(frame.id)

    def _say_beat(self, data: dict[str, Any]) -> None:
        if self._beats and self.claim and self.state is State.OPEN:
            now, lists = self._context.clock(), self._context.orders.is_current
            self._context.reports.beat(
                self.claim.connection_id, self._beats.of_crawler(data, now, lists=lists)
            )

    def _set_capacity(self, asked: int | None) -> None:
        if self._beats and self.identity and self.state is State.OPEN:
            self._beats.capacity = capacity_of(asked, self.identity)
            self._say_plain_beat()

    def _say_plain_beat(self) -> None:
        if self._beats and self.claim:
            self._context.reports.beat(self.claim.connection_id, self._beats.plain())

    def report(self, frame: Frame) -> None:
        """Pass a frame on to the workers."""
        assert self.claim
        on_handled = partial(self._frame_handled, frame.id, self._listed_end(frame))
        if not self._context.reports.add(self.claim.connection_id, frame, on_handled):
            self.pause("reports")

    def _listed_end(self, frame: Frame) -> str | None:
        """Return the job that a frame ends, if the crawler has just listed it."""
        is_listed = (
            frame.is_end
            and self._beats
            and self._beats.names_lately(frame.job_id or "", self._context.clock())
        )
        return frame.job_id if is_listed else None

    def _frame_handled(self, id_: str | None, listed_end: str | None) -> None:
        self.acknowledge(id_)
        if (
            listed_end
            and self._beats
            and self.claim
            and self.state is State.OPEN
            and self._context.orders.is_current
        ):
            beat = self._beats.without(listed_end, self._context.clock())
            self._context.reports.beat(self.claim.connection_id, beat)
        self._on_handled()

    def _on_handled(self) -> None:
        if self.state is State.LEAVING and self._is_settled():
            self._close()
        elif self.state is State.CLOSED and self._inbox.is_empty and self.is_said:
            self.say_lost()

    def _is_settled(self) -> bool:
        assert self.claim
        return self._inbox.is_empty and not self._context.reports.has_unhandled(self.claim.connection_id)

    def acknowledge(self, id_: str | None) -> None:
        """Tell the crawler that a frame has been handled; over its newest link, if this one is closed."""
        if id_ is None or not self.claim:
            return
        metrics.count("acknowledged")
        if self.state is not State.CLOSED:
            self._transport.send(answers.ack(id_))
            return
        for link in self._context.neighbours.of(self.claim.connection_id):
            if link.is_open:
                link.acknowledge(id_)

    def refuse_frame(self, code: str, message: str, id_: str | None) -> None:
        """Tell the crawler that a frame is not passed on; too many of them close the link."""
        now = self._context.clock()
        if now - self._bad_since > BAD_FRAMES_S:
            self._bad, self._bad_since = 0, now
        self._bad += 1
        if self.state is State.CONNECTED:
            self.stop("hello_expected", message)
        elif self._bad > BAD_FRAMES:
            self.stop("too_many_bad_frames", f"more than {BAD_FRAMES} frames of a minute were refused")
        elif self.state is not State.CLOSED:
            metrics.refused(code)
            self._transport.send(answers.error(code, message, closes=False, id_=id_))

    async def own_attempts(self, ids: Collection[str]) -> OwnAttempts:
        """Look up which of these attempts are the connection's. Raises DatabaseLost."""
        assert self.claim
        return await self._context.orders.attempts_of(self.claim.connection_id, ids)

    # What the orders tell

    def attached(self, place: tuple[int, str]) -> None:
        """Take the newest link of this connection: this one, an older one or a newer one."""
        self._entrance.settle(place)
        if not self.claim:
            return
        if place > self.claim.place:
            self.supersede()
        elif self.state is State.CLOSED and self._deadline is not None:
            self._end_unattended()

    def hand_over(self, orders: Iterable[Order]) -> None:
        """Hand orders over that the crawler does not have yet."""
        if self.state is not State.OPEN or self._is_closing:
            return  # while it enters, they are read after the row names it
        if new := self.jobs.hand_over(orders, self._context.clock()):
            metrics.count("orders_handed_over", len(new))
            self._transport.send(answers.job_response(new))

    def end(self, job_id: str, reason: str) -> None:
        """Take the end of an attempt, and tell the crawler if it does not know it."""
        if self.state is State.ENTERING:
            self._ended.add(job_id)
        elif self.jobs.end(job_id) and self.state is State.OPEN:
            metrics.count("orders_revoked")
            self._transport.send(answers.job_revoked(job_id, reason))

    def _give_up(self) -> None:
        """Take that the connection is closed, or somebody else's."""
        if self.state is State.ENTERING:
            self._entrance.refuse(NotResumableError())
        elif self.state is State.OPEN:
            self.is_said = False
            self.stop("connection_closed", "the connection was given up; its jobs are others' now")

    def refused(self) -> None:
        """Take that the connection was not opened."""
        self._entrance.refuse(
            RefusedLinkError("too_many_connections", "there are as many connections as there may be", 30)
        )

    def reconcile(self, row: LinkRow | None, live: Collection[str]) -> bool:
        """Compare this link with its connection's row. Returns true if its orders are to be read anew."""
        if row is None:
            if self.state is State.OPEN:
                self._give_up()
            return False
        if self.claim and not self.claim.owns(row):
            self._give_up()
            return False
        if row.n is not None and row.link is not None:
            self.attached((row.n, row.link))
        if self.state is not State.OPEN:
            return False
        for job_id in self.jobs.live.keys() - set(live):
            self.end(job_id, "Closed")
        return bool(set(live) - self.jobs.live.keys())

    # Ends

    def supersede(self) -> None:
        """Give way to a newer link: hand nothing over any more, read on for a moment, and close."""
        if self.state is State.OPEN:
            self.state = State.SUPERSEDED
            self.is_said = False
            self._deadline = self._context.clock() + READ_ON_S
            metrics.refused("superseded")
            self._transport.send(answers.error("superseded", "the session has a newer link", closes=True))

    def shut_down(self, timeout: float, reconnect_after: float) -> None:
        """Ask the crawler to leave and to come back, and say a last heartbeat for it."""
        if self.state is State.OPEN:
            self._say_plain_beat()
            self._transport.send(answers.shutdown(timeout, reconnect_after, "the gateway is stopped"))
        elif self.state in (State.CONNECTED, State.ENTERING):
            self.stop("too_many_links", "the gateway is being stopped", reconnect_after)

    def stop(self, code: str, message: str, retry_after: float = 0, *, counts: bool = True) -> None:
        """Tell the crawler why its link is closed, and close it."""
        if not self._is_closing:
            if counts:
                metrics.refused(code)
            log.info("link_stopped", code=code, why=message, peer=self.peer.address)
            self._transport.send(answers.error(code, message, closes=True, retry_after=retry_after))
            self._close()

    def say_lost(self) -> None:
        """Say that this link has ended without a goodbye."""
        if self.claim and self.is_said and not self._context.neighbours.is_draining:
            metrics.count("links_lost")
            self._context.reports.lost(self.claim.connection_id, *self.claim.place)
            self.is_said = False

    def ping(self, *, soon: bool = False) -> None:
        """Ask the peer to answer, if it has not for a while or at once."""
        nonce = self._pings.due(self._context.clock(), soon=soon)
        if nonce and not self._transport.ping():
            self._transport.send(answers.ping(nonce))

    def excuse(self, seconds: float) -> None:
        """Give the peer more time: the gateway did not read meanwhile."""
        self._pings.excuse(seconds)
        if self._deadline is not None:
            self._deadline += seconds

    def tick(self, now: float) -> None:
        """Do what is due; called about once a second."""
        if self._deadline is not None and now > self._deadline:
            if self.state is State.CLOSED:
                self._end_unattended()
            elif self.state is State.CONNECTED:
                self.stop("hello_expected", f"no hello within {HELLO_S:g} s")
            else:
                self._close()
        elif self.state is State.OPEN and not self._is_closing:
            if self._pauses:
                self._pings.excuse(1)
            elif self._pings.is_overdue(now):
                self.stop("no_pong", "a ping was not answered in time")
                return
            self.ping()

    def _end_unattended(self) -> None:
        self._deadline = None
        self.say_lost()
        self._context.neighbours.leave(self)

    def _leave(self, reason: object) -> None:
        assert self.claim
        self.state = State.LEAVING
        self.is_said = False
        metrics.count("goodbyes")
        self._context.reports.goodbye(self.claim.connection_id, reason if isinstance(reason, str) else None)
        self._deadline = self._context.clock() + LEAVE_S
        if self._is_settled():
            self._close()

    def _close(self) -> None:
        self._deadline = None
        self._is_closing = True
        self._transport.close()

    # Reading

    def pause(self, why: str) -> None:
        """Read nothing more, for this reason."""
        if not self._pauses:
            self._transport.pause_reading()
        self._pauses.add(why)

    def resume(self, why: str) -> None:
        """Read again, if there is no other reason not to."""
        if why in self._pauses:
            self._pauses.discard(why)
            if not self._pauses:
                self._transport.resume_reading()
