"""
The crawler's side of protocol 1, as docs/wire-protocol.md specifies it: sessions with real gateways over real sockets.

A link that breaks is replaced, at the next gateway of the list. Ends and discoveries are kept until they are
acknowledged, and sent again after each welcome.
"""

import json
import random
import selectors
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

from console.simulator.counters import FleetCounts
from console.simulator.sessions import ENDS, LinkedCrawler, Order
from console.simulator.socket_link import SocketLink, target_of

KEPT = (*ENDS, "jobs_discovered")
"""Frames that are kept until they are acknowledged."""

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 90.0
"""A link over which nothing came for this long is broken."""
GOODBYE_SECONDS = 10.0
_FIRST_RETRY_SECONDS = 1.0
_MOST_DOUBLINGS = 10


class Phase(Enum):
    """Where a session stands with its link."""

    WAITING = auto()
    CONNECTING = auto()
    GREETING = auto()
    """hello was sent."""
    OPEN = auto()
    LEAVING = auto()
    GONE = auto()


class Protocol1Sessions:
    """Sessions with the gateways at these addresses, `unix:/path` or `tcp://host:port`."""

    def __init__(
        self,
        gateways: Sequence[str],
        counts: FleetCounts,
        secret: str | None = None,
        seed: str = "",
        *,
        remembered: dict[str, tuple[str, int]] | None = None,
        longest_retry_seconds: float = 30.0,
        ping_seconds: float | None = None,
        on_pong: Callable[[str], None] = lambda _: None,
    ) -> None:
        """
        *remembered* has the session and the last n of crawlers by name, is kept up to date, and outlives a restart.

        With *ping_seconds*, gateways are pinged so often; *on_pong* gets the connection's id for each answer.
        """
        self.remembered = {} if remembered is None else remembered
        self.longest_retry_seconds = longest_retry_seconds
        self.ping_seconds = ping_seconds
        self.on_pong = on_pong
        self.counts = counts
        self.secret = secret
        self.selector = selectors.DefaultSelector()
        self.rng = random.Random(f"{seed} links")  # noqa: S311 - a simulation
        self.gateways = [target_of(address) for address in gateways]
        self._sessions: list[Protocol1Session] = []

    @property
    def unsent(self) -> int:
        """The number of kept frames."""
        return sum(len(session.kept) for session in self._sessions)

    def open(self, crawler: LinkedCrawler) -> "Protocol1Session":
        """Begin a session; the sessions are spread over the gateways."""
        session = Protocol1Session(self, crawler, len(self._sessions))
        self._sessions.append(session)
        return session

    def step(self, seconds: float) -> None:
        """Read what there is, connect, beat, and write."""
        for key, events in self.selector.select(seconds):
            key.data.on_ready(events)
        now = time.monotonic()
        for session in self._sessions:
            session.tick(now)
        self._sessions = [session for session in self._sessions if session.phase is not Phase.GONE]

    def close(self) -> None:
        """Close all links without a word."""
        for session in self._sessions:
            session.die()
        self.selector.close()


class Protocol1Session:
    """One crawler's session."""

    def __init__(self, all_sessions: Protocol1Sessions, crawler: LinkedCrawler, place: int) -> None:
        self.phase = Phase.WAITING
        self.kept: dict[str, tuple[str, str, bytes]] = {}
        """By the id of the frame: kind, fence and the frame."""
        self._all = all_sessions
        self._crawler = crawler
        self._next_gateway = place
        self._token: str | None
        self._token, self._n = all_sessions.remembered.get(crawler.name, (None, 0))
        self.connection_id = ""
        self._frame_ids = 0
        self._is_frozen = False
        self._link: SocketLink | None = None
        self._failures = 0
        """Attempts in a row that no welcome followed."""
        self._reconnect_after: float | None = None
        """As the gateway's shutdown said."""
        self._due = 0.0
        """When the phase has lasted long enough: then the next attempt, or the end of this one."""
        self._heartbeat_seconds = 30.0
        self._next_beat = self._next_ping = 0.0
        self._last_read = 0.0

    # For the crawler

    @property
    def is_open(self) -> bool:
        """True while there is a link with a welcome."""
        return self.phase is Phase.OPEN

    @property
    def is_given_up(self) -> bool:
        """True if a frozen crawler's gateway has told it so; it may also be long after its gateway was killed."""
        if not self._is_frozen:
            return False
        unread = self._link.unread if self._link else b""
        return b"connection_closed" in unread or time.monotonic() - self._last_read > SILENCE_SECONDS

    def send(self, kind: str, fence: str, **data: Any) -> None:
        """Send a frame over the link, if there is one; keep it until it is acknowledged, if it matters."""
        if self.phase in {Phase.LEAVING, Phase.GONE}:
            return
        frame = {"type": kind, "timestamp": _now(), "jobId": fence, "data": data}
        if kind in KEPT:
            self._frame_ids += 1
            frame["id"] = str(self._frame_ids)
        encoded = _encoded(frame)
        if kind in KEPT:
            self.kept[str(self._frame_ids)] = kind, fence, encoded
        self._all.counts.said += 1
        if self.phase is Phase.OPEN and self._link:
            self._link.send(encoded)

    def has_unapplied(self, _fence: str) -> bool:
        """False: a gateway keeps an end behind its discoveries."""
        return False

    def freeze(self) -> None:
        """Send nothing and look at nothing; what comes waits in a buffer, as it would in the kernel's."""
        self._is_frozen = True

    def wake_up(self) -> None:
        """Look at what came meanwhile."""
        self._is_frozen = False
        self._next_beat = self._last_read = time.monotonic()
        if self._link:
            self._take(self._link)

    def leave(self) -> None:
        """Say goodbye, and wait until the gateway closes the link."""
        if self.phase is not Phase.OPEN:
            self.die()
            return
        self._say("goodbye", reason="the shift is over")
        self.phase, self._due = Phase.LEAVING, time.monotonic() + GOODBYE_SECONDS

    def die(self) -> None:
        """Close the link, and forget everything."""
        self._hang_up()
        self.kept.clear()
        self._token = None
        self._remember()
        self.phase = Phase.GONE

    # In the loop

    def tick(self, now: float) -> None:
        """Do what is due."""
        match self.phase:
            case Phase.WAITING if now >= self._due and not self._is_frozen:
                self._connect(now)
            case Phase.CONNECTING if now >= self._due:
                self._break()
            case Phase.LEAVING if now >= self._due:
                self.die()
            case Phase.GREETING | Phase.OPEN if (
                now - self._last_read > SILENCE_SECONDS and not self._is_frozen
            ):
                self._break()
            case Phase.OPEN if not self._is_frozen:
                if now >= self._next_beat:
                    self._beat(now)
                if self._all.ping_seconds and now >= self._next_ping:
                    self._next_ping = now + self._all.ping_seconds
                    self._say("ping", nonce="")

    # The link

    def _connect(self, now: float) -> None:
        target = self._all.gateways[self._next_gateway % len(self._all.gateways)]
        self._next_gateway += 1
        self._n += 1
        self._remember()
        self.phase, self._due = Phase.CONNECTING, now + CONNECT_SECONDS
        try:
            self._link = SocketLink(self._all.selector, target, self._on_change)
        except OSError:
            self._break()

    def _on_change(self, link: SocketLink) -> None:
        """Take that the link is up, has failed, or that something came over it."""
        self._last_read = time.monotonic()
        if self.phase is Phase.CONNECTING and link.is_up:
            self._greet()
        if not self._is_frozen:
            self._take(link)

    def _greet(self) -> None:
        self.phase = Phase.GREETING
        hello = {
            "protocol": 1,
            "crawlerId": self._crawler.name,
            "n": self._n,
            "capacity": self._crawler.capacity,
        }
        if self._all.secret:
            hello["secret"] = self._all.secret
        if self._token:
            hello |= {"session": self._token, "activeJobs": self._active()}
        self._say("hello", **hello)

    def _break(self, retry_after: float = 0.0) -> None:
        """Give up the link, and try again after a random time that grows with each attempt."""
        self._hang_up()
        if self.phase is Phase.LEAVING:
            self.die()
            return
        longest = min(_FIRST_RETRY_SECONDS * 2**self._failures, self._all.longest_retry_seconds)
        self._failures = min(self._failures + 1, _MOST_DOUBLINGS)
        pause = self._reconnect_after
        if pause is None:
            pause = retry_after + self._all.rng.uniform(0, longest)
        self._due = time.monotonic() + pause
        self._reconnect_after = None
        self.phase = Phase.WAITING

    def _remember(self) -> None:
        if self._token:
            self._all.remembered[self._crawler.name] = self._token, self._n
        else:
            self._all.remembered.pop(self._crawler.name, None)

    def _hang_up(self) -> None:
        if self._link:
            self._link.close()
        self._link = None

    def _take(self, link: SocketLink) -> None:
        """Handle the whole frames that were read, as long as they do not end the link."""
        for line in link.take():
            if self._link is link:
                self._handle(json.loads(line))
        if link.has_ended and self._link is link:
            self._break()

    def _say(self, kind: str, **data: Any) -> None:
        if self._link:
            self._link.send(_encoded({"type": kind, "timestamp": _now(), "data": data}))

    # Frames

    def _handle(self, frame: dict[str, Any]) -> None:
        data = frame.get("data", {})
        match frame["type"]:
            case "welcome":
                self._on_welcome(data)
            case "job_response":
                self._take_orders(data["jobs"])
            case "job_revoked":
                self._crawler.revoke(frame["jobId"])
                self._forget(frame["jobId"])
                self._beat(time.monotonic())
            case "ack":
                self.kept.pop(data["id"], None)
            case "ping":
                self._say("pong", nonce=data["nonce"])
            case "pong":
                self._all.on_pong(self.connection_id)
            case "shutdown":
                self._all.counts.asked_to_reconnect += 1
                self._reconnect_after = data["reconnectAfterSeconds"]
            case "error":
                self._on_error(data)

    def _on_welcome(self, data: dict[str, Any]) -> None:
        counts, is_resumed = self._all.counts, data["session"] == self._token
        counts.links_resumed += is_resumed
        counts.links += 1
        self._token, self.connection_id = data["session"], data["connectionId"]
        self._remember()
        if self.phase is Phase.GREETING:
            self.phase = Phase.OPEN
        self._failures = 0
        self._heartbeat_seconds = data["heartbeatInterval"]
        self._next_beat = time.monotonic() + self._heartbeat_seconds
        self._crawler.keep_only({job["id"] for job in data["jobs"]})
        for _, _, encoded in list(self.kept.values()):
            self._resend(encoded)
        self._take_orders(data["jobs"], repeats=False)

    def _resend(self, encoded: bytes) -> None:
        if self._link:
            self._all.counts.repeated += 1
            self._link.send(encoded)

    def _take_orders(self, jobs: list[dict[str, Any]], *, repeats: bool = True) -> None:
        """Begin what is new; an order whose end is not acknowledged yet gets it again."""
        for job in jobs:
            fence = job["id"]
            ends = [encoded for kind, of, encoded in self.kept.values() if of == fence and kind in ENDS]
            if ends and repeats:
                self._resend(ends[0])
            if not ends and fence not in self._crawler.fences():
                self._crawler.accept(
                    Order(
                        fence,
                        job["entityType"],
                        job.get("entityId"),
                        job.get("gitlabUrl"),
                        job.get("resumeState"),
                        job.get("accessToken"),
                    )
                )

    def _on_error(self, data: dict[str, Any]) -> None:
        self._all.counts.errors += 1
        if refused := self.kept.pop(data.get("id") or "", None):
            self._crawler.on_undelivered(refused[1])
        if data["code"] == "connection_closed":
            self._token = None
            self._remember()
            self._crawler.keep_only(())
        if data["closes"]:
            self._break(data.get("retryAfterSeconds") or 0.0)

    def _forget(self, fence: str) -> None:
        for frame_id in [frame_id for frame_id, (_, of, _) in self.kept.items() if of == fence]:
            del self.kept[frame_id]
            self._crawler.on_undelivered(fence)

    def _beat(self, now: float) -> None:
        self._next_beat = now + self._heartbeat_seconds
        fences = self._active()
        self._all.counts.beats += 1
        self._say("heartbeat", activeJobs=fences, systemStatus="processing" if fences else "idle")

    def _active(self) -> list[str]:
        """The jobs that it works on, and those whose end is not acknowledged."""
        ended = [fence for kind, fence, _ in self.kept.values() if kind in ENDS]
        return list(dict.fromkeys([*self._crawler.fences(), *ended]))


def _encoded(frame: dict[str, Any]) -> bytes:
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":")).encode()


def _now() -> str:
    return datetime.now(UTC).isoformat()
