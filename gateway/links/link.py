"""
One link: a socket with a crawler at its other end.

    CONNECTED ── hello ──► ENTERING ── welcome ──► OPEN ──► LEAVING ──► CLOSED
                                                     └────► SUPERSEDED ──► CLOSED

A link that is superseded is read on for a moment: what its crawler had sent before it came back is applied.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import structlog

from gateway.links.context import Context
from gateway.links.conversation import Conversation
from gateway.links.entrance import Entrance, NotResumableError
from gateway.links.hello import Hello, Identity, RefusedLinkError, read_hello
from gateway.links.inbox import Reading
from gateway.links.jobs import Jobs
from gateway.listeners.peer import Peer
from gateway.listeners.transport import HELLO_BYTES, Transport
from gateway.metrics import metrics
from gateway.wire import answers
from gateway.wire.protocol_1 import Frame, RefusedFrameError, parse
from persistence.orders.hand_over import Order
from persistence.orders.links import LinkRow

if TYPE_CHECKING:
    from gateway.links.claim import Claim

log = structlog.get_logger()

FRAME_BYTES: Final = 1024**2 - 1024
"""A frame and who sent it are one item of a message, of which workers take 1 MiB."""
DISCOVERY_BYTES: Final = 8 * 1024**2

HELLO_S: Final = 10.0
READ_ON_S: Final = 2.0
"""For how long a superseded link is read on."""
LEAVE_S: Final = 10.0
"""For how long acknowledgements are waited for after a goodbye."""
ATTACH_S: Final = 30.0
"""For how long it may take until a link is attached whose socket is closed."""

EARLY_FRAMES: Final = 100


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
        self.state = State.CONNECTED
        self.hello: Hello | None = None
        self.identity: Identity | None = None
        self.claim: Claim | None = None
        self.is_said = False
        """True once `connections.attach` was published: the row may name this link."""
        self._transport = transport
        self._context = context
        self._reading = Reading(transport)
        self._entrance = Entrance(self, context)
        self._entering: asyncio.Task[None] | None = None
        self._early: list[bytes] = []
        """What was sent before the welcome."""
        self._ended: set[str] = set()
        """Attempts that were closed before the welcome."""
        self._conversation: Conversation | None = None
        """From the welcome on."""
        self._deadline: float | None = context.clock() + HELLO_S
        self._is_closing = False

    # What others see

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""
        return self._transport.peer

    def know(self, identity: Identity) -> None:
        """Note who is at the other end, and forget what it has shown for it."""
        self.identity = identity
        if self.hello:
            self.hello = replace(self.hello, secret=None)
        self._transport.authenticated()

    @property
    def is_stranger(self) -> bool:
        """True if it has not said yet which connection it is for."""
        return self.claim is None and self.state is not State.CLOSED

    @property
    def is_open(self) -> bool:
        """True if its crawler is welcome, and it is the newest link of its connection."""
        return self.state is State.OPEN and not self._is_closing

    @property
    def is_closed(self) -> bool:
        """True if its socket is closed."""
        return self.state is State.CLOSED

    @property
    def jobs(self) -> Jobs | None:
        """What is known of its connection's attempts; None before the welcome."""
        return self._conversation.jobs if self._conversation else None

    # What the listener calls

    @property
    def frame_limit(self) -> int:
        """Bytes that a frame may have now."""
        if self._conversation is None:
            return HELLO_BYTES
        return DISCOVERY_BYTES if self._conversation.jobs.may_discover else FRAME_BYTES

    def frame_received(self, frame: bytes) -> None:
        """Take a frame."""
        metrics.count("frames_in")
        if self._is_closing:
            return
        if self.state is State.ENTERING:
            self._early.append(frame)
            if len(self._early) > EARLY_FRAMES:
                self.stop("hello_expected", "nothing may be sent between hello and welcome")
        elif self.state is not State.LEAVING:
            self._take(frame)

    def ponged(self) -> None:
        """Note that the peer has answered a ping of the socket's own."""
        if self._conversation:
            self._conversation.pings.answer(self._context.clock())

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
        if not (self._conversation and self._conversation.holds_frames):
            self._say_lost()
        if self.claim:
            self._context.neighbours.leave(self)

    # Entering

    def _take(self, raw: bytes) -> None:
        try:
            frame = parse(raw)
        except RefusedFrameError as error:
            if self._conversation:
                self._conversation.refuse_frame(error.code, str(error), error.id)
            else:
                self.stop("hello_expected", str(error))
            return
        if self._conversation:
            self._conversation.take(frame)
        else:
            self._take_hello(frame)

    def _take_hello(self, frame: Frame) -> None:
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
        self._reading.pause("entering")
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
            self._welcome(hello, [order for order in orders if order.crawler_job_id not in self._ended])
        finally:
            self._entering = None

    def _welcome(self, hello: Hello, orders: list[Order]) -> None:
        claim, interval = self.claim, self._context.heartbeat_interval
        assert claim
        assert self.identity
        before = [link.jobs for link in self._context.neighbours.of(claim.connection_id) if link.jobs]
        jobs = before[-1] if before else Jobs()
        jobs.replace(orders, self._context.clock())
        self.state = State.OPEN
        self._conversation = Conversation(
            self,
            self._transport,
            self._context,
            claim=claim,
            identity=self.identity,
            reading=self._reading,
            jobs=jobs,
        )
        self._transport.send(
            answers.welcome(claim.connection_id, claim.session, orders, interval, FRAME_BYTES)
        )
        metrics.count("links_welcomed")
        if hello.session == claim.session:
            metrics.count("links_resumed")
        else:
            self._context.neighbours.greet(self)
        log.info("link_open", connection_id=claim.connection_id, n=claim.n)
        early, self._early = self._early, []
        for raw in early:
            self.frame_received(raw)
        self._reading.resume("entering")

    # What the orders tell

    def attached(self, place: tuple[int, str]) -> None:
        """Take the newest link of this connection: this one, an older one or a newer one."""
        self._entrance.settle(place)
        if not self.claim:
            return
        if place > self.claim.place:
            self._supersede()
        elif self.state is State.CLOSED and self._deadline is not None:
            self._end_unattended()

    def hand_over(self, orders: Iterable[Order]) -> None:
        """Hand orders over that the crawler does not have yet. Those from before the welcome are in it."""
        if self.is_open and self._conversation:
            self._conversation.hand_over(orders)

    def end(self, job_id: str, reason: str) -> None:
        """Take the end of an attempt, and tell the crawler if it does not know it."""
        if self.state is State.ENTERING:
            self._ended.add(job_id)
        elif self.is_open and self._conversation:
            self._conversation.end(job_id, reason)

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
        if not self.is_open or self._conversation is None:
            return False
        known = self._conversation.jobs.live.keys()
        for job_id in known - set(live):
            self.end(job_id, "Closed")
        return bool(set(live) - known)

    def refused(self) -> None:
        """Take that the connection was not opened."""
        self._entrance.refuse(
            RefusedLinkError("too_many_connections", "there are as many connections as there may be", 30)
        )

    def room(self) -> None:
        """Read again what the reports had no room for."""
        self._reading.resume("reports")

    def acknowledge(self, id_: str | None) -> None:
        """Tell the crawler that a frame has been handled which came over another link."""
        if self._conversation:
            self._conversation.acknowledge(id_)

    def _give_up(self) -> None:
        """Take that the connection is closed, or somebody else's."""
        if self.state is State.ENTERING:
            self._entrance.refuse(NotResumableError())
        elif self.state is State.OPEN:
            self.is_said = False
            self.stop("connection_closed", "the connection was given up; its jobs are others' now")

    # Ends

    def _supersede(self) -> None:
        """Give way to a newer link: hand nothing over any more, read on for a moment, and close."""
        if self.is_open:
            self.state = State.SUPERSEDED
            self.is_said = False
            self._deadline = self._context.clock() + READ_ON_S
            metrics.refused("superseded")
            self._transport.send(answers.error("superseded", "the session has a newer link", closes=True))

    def leave(self, reason: str | None) -> None:
        """Take the crawler's goodbye. Over a superseded link it ends this alone: the session is another process's."""
        assert self.claim
        assert self._conversation
        if not self.is_open:
            self._close()
            return
        self.state = State.LEAVING
        self.is_said = False
        metrics.count("goodbyes")
        self._context.reports.goodbye(self.claim.connection_id, reason)
        self._deadline = self._context.clock() + LEAVE_S
        self.settled()

    def settled(self) -> None:
        """Note that a frame has been handled, or that none is held any more."""
        assert self._conversation
        if self.state is State.LEAVING and self._conversation.is_settled:
            self._close()
        elif self.state is State.CLOSED and not self._conversation.holds_frames:
            self._say_lost()

    def shut_down(self, timeout: float, reconnect_after: float) -> None:
        """Ask the crawler to leave and to come back, and say a last heartbeat for it."""
        if self.is_open and self._conversation:
            self._conversation.beat()
            self._transport.send(answers.shutdown(timeout, reconnect_after, "the gateway is stopped"))
        elif self._conversation is None:
            self.stop("too_many_links", "the gateway is being stopped", reconnect_after)

    def stop(self, code: str, message: str, retry_after: float = 0, *, counts: bool = True) -> None:
        """Tell the crawler why its link is closed, and close it."""
        if not self._is_closing:
            if counts:
                metrics.refused(code)
            log.info("link_stopped", code=code, why=message, peer=self.peer.address)
            self._transport.send(answers.error(code, message, closes=True, retry_after=retry_after))
            self._close()

    def _close(self) -> None:
        self._deadline = None
        self._is_closing = True
        self._transport.close()

    def _say_lost(self) -> None:
        """Say that this link has ended without a goodbye, if its connection's row may name it."""
        if self.claim and self.is_said and not self._context.neighbours.is_draining:
            metrics.count("links_lost")
            self._context.reports.lost(self.claim.connection_id, *self.claim.place)
            self.is_said = False

    def _end_unattended(self) -> None:
        """Take that a link is attached, or never will be, whose socket is closed."""
        self._deadline = None
        self._say_lost()
        self._context.neighbours.leave(self)

    def attempt(self, action: Callable[["Link"], bool | None]) -> bool | None:
        """Do something with this link; a fault in that ends it, and no other one."""
        try:
            return action(self)
        except Exception:
            log.exception("link_failed")
            self.stop("internal", "a fault of the gateway", 1)
            return None

    # Time

    def tick(self, now: float) -> None:
        """Do what is due; called about once a second."""
        if self._deadline is not None and now > self._deadline:
            if self.state is State.CLOSED:
                self._end_unattended()
            elif self.state is State.CONNECTED:
                self.stop("hello_expected", f"no hello within {HELLO_S:g} s")
            else:
                self._close()
        elif self.is_open and self._conversation:
            self._conversation.check_pings(now)

    def ping_soon(self) -> None:
        """Ask the crawler to answer, whenever it did last."""
        if self._conversation:
            self._conversation.ping(soon=True)

    def excuse(self, seconds: float) -> None:
        """Give the peer more time: the gateway did not read meanwhile."""
        if self._conversation:
            self._conversation.pings.excuse(seconds)
        if self._deadline is not None:
            self._deadline += seconds
