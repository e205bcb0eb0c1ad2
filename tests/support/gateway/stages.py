"""Links without sockets, databases or a broker: what is around them is played, and time passes when a test says so."""

import asyncio
import json
import time
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Any, Self

from gateway.links.context import Context
from gateway.links.hello import Door
from gateway.links.link import Link
from gateway.links.registry import Registry
from gateway.links.session import hash_of
from gateway.listeners.addresses import ListenAddress
from gateway.listeners.peer import Peer
from gateway.wire.protocol_1 import Frame
from persistence.exceptions import DatabaseLost
from persistence.orders.attempts import OwnAttempts
from persistence.orders.credentials import Credential
from persistence.orders.hand_over import Order
from persistence.orders.links import LinkRow
from persistence.schema.ids import ConnectionId

UID = 1000
PATIENCE_S = 30.0
TRUSTED = ListenAddress("unix", path="/run/gateway.sock", trusts_peer=True)
OPEN = ListenAddress("tcp", host="127.0.0.1", port=7433)


class Socket:
    """The transport of a link; what is sent over it is kept."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.unsent = 0
        self.sent: list[dict[str, Any]] = []
        self.is_known = self.is_closing = self.is_paused = False

    def send(self, frame: bytes) -> None:
        """Keep what is sent."""
        self.sent.append(json.loads(frame))

    def ping(self) -> bool:
        """It is no WebSocket."""
        return False

    def authenticated(self) -> None:
        """Note that its crawler is known."""
        self.is_known = True

    def close(self) -> None:
        """Note that it is being closed."""
        self.is_closing = True

    abort = close

    def pause_reading(self) -> None:
        """Note that it is not read."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Note that it is read."""
        self.is_paused = False

    def said(self, kind: str) -> list[dict[str, Any]]:
        """The data of all frames of a kind."""
        return [frame["data"] for frame in self.sent if frame["type"] == kind]

    @property
    def codes(self) -> list[str]:
        """The codes of all errors."""
        return [str(data["code"]) for data in self.said("error")]


class Reports:
    """What the links say to the broker. Nothing is handled before the test says so."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, Frame]] = []
        self.waiting: list[tuple[str, Callable[[], None]]] = []
        self.beats: list[Mapping[str, Any]] = []
        self.links: list[Mapping[str, Any]] = []
        self.lost_links: list[tuple[str, int, str]] = []
        self.goodbyes: list[tuple[str, str | None]] = []
        self.has_room = True

    def add(self, connection_id: ConnectionId, frame: Frame, on_handled: Callable[[], None]) -> bool:
        """Take a frame."""
        self.frames.append((connection_id, frame))
        self.waiting.append((connection_id, on_handled))
        return self.has_room

    def beat(self, connection_id: ConnectionId, beat: Mapping[str, Any]) -> None:
        """Take a heartbeat."""
        assert beat["connection_id"] == connection_id
        self.beats.append(beat)

    def attach(self, link: Mapping[str, Any]) -> None:
        """Take a link."""
        self.links.append(link)

    def lost(self, connection_id: ConnectionId, n: int, link: str) -> None:
        """Take the loss of a link."""
        self.lost_links.append((connection_id, n, link))

    def goodbye(self, connection_id: ConnectionId, reason: str | None) -> None:
        """Take a goodbye."""
        self.goodbyes.append((connection_id, reason))

    def has_unhandled(self, connection_id: ConnectionId) -> bool:
        """True if frames wait."""
        return any(id_ == connection_id for id_, _ in self.waiting)

    def handle(self) -> None:
        """Let the workers handle everything."""
        while self.waiting:
            self.waiting.pop(0)[1]()


class Orders:
    """What the links read."""

    def __init__(self) -> None:
        self.is_current = True
        self.is_away = False
        self.live: dict[str, list[Order]] = {}
        self.own: dict[str, OwnAttempts] = {}
        self.looked_at: list[str] = []

    def wake(self) -> None:
        """Nothing sleeps here."""

    def look_at(self, connection_id: ConnectionId) -> None:
        """Note who is asked about."""
        self.looked_at.append(connection_id)

    async def attempts_of(self, connection_id: ConnectionId, crawler_job_ids: Collection[str]) -> OwnAttempts:
        """Tell what the test has said."""
        if self.is_away:
            raise DatabaseLost
        return self.own.get(connection_id, OwnAttempts(frozenset(), frozenset()))

    async def live_orders(self, connection_id: ConnectionId) -> list[Order]:
        """Tell what the test has said."""
        return self.live.get(connection_id, [])


class Credentials:
    """The credentials of crawlers, by the hashes of their secrets."""

    def __init__(self) -> None:
        self.known: dict[str, Credential] = {}
        self.asked = 0

    async def find(self, secret_hash: str) -> Credential | None:
        """Tell what the test has said."""
        self.asked += 1
        return self.known.get(secret_hash)

    async def revoked(self, credential_ids: Collection[str]) -> set[str]:
        """None is."""
        return set()


class Stage:
    """A gateway's links, in a loop that turns only while the test does something with them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.loop = asyncio.new_event_loop()
        self.reports, self.orders, self.credentials = Reports(), Orders(), Credentials()
        self.registry = Registry(self.clock)
        self.registry.orders = self.orders
        self.door = Door(self.credentials, self.clock, uid=UID)
        self.context = Context("east", self.reports, self.orders, self.door, self.registry, 30.0, self.clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.loop.run_until_complete(end())
        self.loop.close()

    def cpu(self) -> float:
        """Seconds of CPU time that this process has used."""
        return time.process_time()

    def clock(self) -> float:
        """The time, which stands still."""
        return self.now

    def do(self, action: Callable[[], object], turns: int = 20) -> None:
        """Do something in the loop, and let it turn until everything has been done that needs no time."""

        async def act() -> None:
            action()
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(act())

    def wait_until(self, probe: Callable[[], object]) -> None:
        """Let the loop turn in real time until something is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not probe():
            assert time.monotonic() < deadline, "it does not become true"
            self.loop.run_until_complete(asyncio.sleep(0.01))

    def pass_time(self, seconds: float, *links: "Player") -> None:
        """Let time pass second by second, and the links do what is due."""
        for _ in range(round(seconds)):
            self.now += 1
            for player in links:
                self.do(lambda link=player.link: link.tick(self.now), 1)  # type: ignore[misc]

    def connect(
        self, listener: ListenAddress = TRUSTED, uid: int | None = UID, address: str = "uid=1000"
    ) -> "Player":
        """Let a crawler connect."""
        return Player(self, Socket(Peer(listener, uid, 1, address)))

    def enter(self, name: str = "one", n: int = 1, orders: Collection[Order] = (), **hello: Any) -> "Player":
        """Let a crawler connect, say hello and be welcomed, with these live orders."""
        player = self.connect()
        player.say("hello", protocol=1, crawlerId=name, n=n, **hello)
        attached = self.reports.links[-1]
        self.orders.live[attached["connection_id"]] = list(orders)
        player.attach()
        return player


class Player:
    """A crawler at the other end of a link."""

    def __init__(self, stage: Stage, socket: Socket) -> None:
        self.stage, self.socket = stage, socket
        self.link = Link(socket, stage.context)

    def say(self, kind: str, job: str | None = None, id_: str | None = None, **data: Any) -> None:
        """Let it send a frame."""
        frame: dict[str, Any] = {"type": kind, "timestamp": "2026-11-29T09:00:00Z", "data": data}
        frame |= {"jobId": job} if job else {}
        frame |= {"id": id_} if id_ else {}
        self.say_raw(json.dumps(frame).encode())

    def say_raw(self, frame: bytes) -> None:
        """Let it send these bytes."""
        self.stage.do(lambda: self.link.frame_received(frame))

    def attach(self) -> None:
        """Let the row name this link."""
        claim = self.claim
        self.stage.do(lambda: self.stage.registry.attached(self.id, claim.n, claim.link))

    def hand_over(self, *orders: Order) -> None:
        """Let orders be there for it."""
        self.stage.do(lambda: self.stage.registry.handed_over(list(orders)))

    def close(self) -> None:
        """Let its socket be closed."""
        self.stage.do(lambda: self.link.closed(None))

    @property
    def claim(self) -> Any:
        """What it is attached as."""
        assert self.link.claim
        return self.link.claim

    @property
    def id(self) -> ConnectionId:
        """Its connection."""
        return ConnectionId(self.claim.connection_id)

    @property
    def session(self) -> str:
        """Its session."""
        return str(self.claim.session)

    @property
    def revoked(self) -> list[tuple[str, str]]:
        """The orders that were taken back, each with the reason."""
        frames = [frame for frame in self.socket.sent if frame["type"] == "job_revoked"]
        return [(frame["jobId"], frame["data"]["reason"]) for frame in frames]

    def order(self, id_: str, command: str = "project", token: str | None = "a-token") -> Order:
        """An order for it."""
        return Order(
            id_, self.id, "acc", command, "project", "42", "https://gitlab.example.org", None, (), token
        )

    def row(self, **changes: Any) -> LinkRow:
        """Its connection's row."""
        columns: dict[str, Any] = {
            "connection_id": self.id,
            "is_active": True,
            "said_goodbye": False,
            "n": self.claim.n,
            "link": self.claim.link,
            "session_hash": hash_of(self.session),
            "credential_id": self.claim.credential_id,
        }
        return LinkRow(**columns | changes)
