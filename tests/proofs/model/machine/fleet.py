"""Actions of the machine's crawlers: they register, send frames and heartbeats, and disconnect."""

from operator import attrgetter
from typing import Any

from hypothesis import strategies as st
from ulid import ULID

from proofs.model.machine.actions import action
from proofs.model.machine.crawlers import FRAME_SPECS, PICK, FrameSpec, frame
from proofs.model.machine.delivery import DeliveryMachine
from proofs.model.state import Connection
from support.worlds.links import OTHER_SESSION, SESSION


class Fleet(DeliveryMachine):
    """The crawlers and their gateway."""

    @action(weight=1, capacity=st.integers(1, 3))
    def register_crawler(self, capacity: int) -> None:
        """Register a crawler under a fresh id."""
        id_ = str(ULID.from_int(self.number()))
        self.send("connections.register", connection_id=id_, capacity=capacity)

    @action(weight=1, needs=lambda self: self.model.connections, pick=PICK)
    def register_again(self, pick: int) -> None:
        """Register under an id that was used."""
        id_ = self.connection(pick, like=bool).id
        self.send("connections.register", connection_id=id_, capacity=9)

    @action(
        weight=8,
        needs=lambda self: self.model.connections,
        specs=st.lists(FRAME_SPECS, min_size=2, max_size=4),
    )
    def send_frames(self, specs: list[FrameSpec]) -> None:
        """Send several frames in one message."""
        self.send("crawler.frames", frames=[frame(self.model, spec, self.focus) for spec in specs])

    @action(weight=14, needs=lambda self: self.model.connections, spec=FRAME_SPECS)
    def send_frame(self, spec: FrameSpec) -> None:
        """Send one frame."""
        self.send("crawler.frames", frames=[frame(self.model, spec, self.focus)])

    @action(
        weight=4,
        needs=lambda self: self.model.live,
        pick=PICK,
        ends=st.lists(FRAME_SPECS, min_size=2, max_size=3),
    )
    def send_frames_of_one_attempt(self, pick: int, ends: list[FrameSpec]) -> None:
        """Send several frames of one attempt in one message, some of them after its end."""
        self.focus = self.model.live[pick % len(self.model.live)].job
        own = [spec._replace(pick=1, about="own attempt") for spec in ends]
        self.send("crawler.frames", frames=[frame(self.model, spec, self.focus) for spec in own])

    @action(
        weight=3,
        needs=lambda self: self.model.connections,
        picks=st.lists(PICK, min_size=1, max_size=3),
        what=st.integers(0, 5),
    )
    def send_heartbeats(self, picks: list[int], what: int) -> None:
        """Send heartbeats, some of them of a closed connection."""
        ids = [self.connection(pick, attrgetter("active") if pick % 16 else bool).id for pick in picks]
        fields = {1: {"active_jobs": 0}, 2: {"active_jobs": []}, 3: {"capacity": 2}}.get(what, {})
        self.send("connections.heartbeat", beats=[{"connection_id": id_} | fields for id_ in ids])

    @action(weight=2, capacity=st.integers(1, 3), gateway=st.sampled_from(["east", "west"]))
    def attach_crawler(self, capacity: int, gateway: str) -> None:
        """Open a connection by its first link."""
        id_ = str(ULID.from_int(self.number()))
        self.send("connections.attach", links=[self._link(id_, 1, capacity, gateway)])

    @action(
        weight=4,
        needs=lambda self: self.model.connections,
        picks=st.lists(PICK, min_size=1, max_size=2),
        newer=st.sampled_from([1, 1, 1, 0, -1]),
        gateway=st.sampled_from(["east", "west"]),
    )
    def attach_again(self, picks: list[int], newer: int, gateway: str) -> None:
        """Attach links to connections that are there: mostly newer ones, of their own sessions."""
        links = []
        for pick in picks:
            connection = self._linked(pick)
            n = (connection.link.n if connection.link else 1) + newer
            session = OTHER_SESSION if pick % 16 == 0 else SESSION
            links.append(self._link(connection.id, max(n, 0), 1 + pick % 3, gateway, session))
        self.send("connections.attach", links=links)

    @action(
        weight=4,
        needs=lambda self: any(c.link for c in self.model.active),
        pick=PICK,
        older=st.sampled_from([0, 0, 0, 1]),
        then=st.sampled_from(["nothing", "sweep", "resume"]),
    )
    def lose_link(self, pick: int, older: int, then: str) -> None:
        """Let a link be lost, or an older one; then let the window pass, or attach a new one."""
        connection = self._linked(pick)
        if connection.link is None:
            return
        n = max(connection.link.n - older, 0)
        self.send("connections.lost", connection_id=connection.id, n=n, link=f"link-{n}")
        if then == "sweep":
            self.advance_time(1, is_swept=True)
        elif then == "resume":
            self.send("connections.attach", links=[self._link(connection.id, n + 1, 2, "west")])

    def _linked(self, pick: int) -> Connection:
        """A connection, mostly an open one that has a link, and preferably one with jobs."""
        if pick % 16 == 1:
            return self.connection(pick, like=bool)
        linked = [c for c in self.model.active if c.link]
        working = [c for c in linked if c.live]
        some = (working if pick % 4 else linked) or linked
        return some[pick % len(some)] if some else self.connection(pick, like=bool)

    def _link(self, id_: str, n: int, capacity: int, gateway: str, session: str = SESSION) -> dict[str, Any]:
        return {
            "connection_id": id_,
            "n": n,
            "link": f"link-{n}",
            "gateway": gateway,
            "capacity": capacity,
            "session_hash": session,
        }

    @action(weight=1, needs=lambda self: self.model.connections, pick=PICK)
    def disconnect(self, pick: int) -> None:
        """Disconnect a crawler."""
        self.send("connections.disconnect", connection_id=self.connection(pick).id)
