"""Actions of the machine's crawlers: they register, send frames and heartbeats, and disconnect."""

from operator import attrgetter

from hypothesis import strategies as st
from ulid import ULID

from proofs.model.machine.actions import action
from proofs.model.machine.crawlers import FRAME_SPECS, PICK, FrameSpec, frame
from proofs.model.machine.delivery import DeliveryMachine


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

    @action(weight=1, needs=lambda self: self.model.connections, pick=PICK)
    def disconnect(self, pick: int) -> None:
        """Disconnect a crawler."""
        self.send("connections.disconnect", connection_id=self.connection(pick).id)
