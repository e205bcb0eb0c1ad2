"""What the machine's crawlers do: come, speak, and go."""

from operator import attrgetter

from hypothesis import strategies as st
from ulid import ULID

from proofs.model.machine.actions import deed
from proofs.model.machine.crawlers import PICK, WISHES, Wish, frame
from proofs.model.machine.delivery import Courier


class Fleet(Courier):
    """The crawlers and their gateway."""

    @deed(weight=1, capacity=st.integers(1, 3))
    def one_registers(self, capacity: int) -> None:
        """A crawler comes."""
        id_ = str(ULID.from_int(self.number()))
        self.send("connections.register", connection_id=id_, capacity=capacity)

    @deed(weight=1, needs=lambda self: self.model.connections, pick=PICK)
    def one_registers_again(self, pick: int) -> None:
        """Under an id that was used."""
        id_ = self.connection(pick, like=bool).id
        self.send("connections.register", connection_id=id_, capacity=9)

    @deed(
        weight=8, needs=lambda self: self.model.connections, wishes=st.lists(WISHES, min_size=2, max_size=4)
    )
    def some_speak(self, wishes: list[Wish]) -> None:
        """Several frames in one message."""
        self.send("crawler.frames", frames=[frame(self.model, wish, self.focus) for wish in wishes])

    @deed(weight=14, needs=lambda self: self.model.connections, wish=WISHES)
    def one_speaks(self, wish: Wish) -> None:
        """A frame by itself."""
        self.send("crawler.frames", frames=[frame(self.model, wish, self.focus)])

    @deed(
        weight=4, needs=lambda self: self.model.live, pick=PICK, ends=st.lists(WISHES, min_size=2, max_size=3)
    )
    def one_tells_a_whole_story(self, pick: int, ends: list[Wish]) -> None:
        """Several words about one attempt in one message: some behind its end."""
        self.focus = self.model.live[pick % len(self.model.live)].job
        honest = [wish._replace(who=1, manner="honest") for wish in ends]
        self.send("crawler.frames", frames=[frame(self.model, wish, self.focus) for wish in honest])

    @deed(
        weight=3,
        needs=lambda self: self.model.connections,
        picks=st.lists(PICK, min_size=1, max_size=3),
        what=st.integers(0, 5),
    )
    def some_beat(self, picks: list[int], what: int) -> None:
        """Heartbeats; some are of a connection that is closed."""
        ids = [self.connection(pick, attrgetter("active") if pick % 16 else bool).id for pick in picks]
        says = {1: {"active_jobs": 0}, 2: {"active_jobs": []}, 3: {"capacity": 2}}.get(what, {})
        self.send("connections.heartbeat", beats=[{"connection_id": id_} | says for id_ in ids])

    @deed(weight=1, needs=lambda self: self.model.connections, pick=PICK)
    def one_says_goodbye(self, pick: int) -> None:
        """A crawler leaves."""
        self.send("connections.disconnect", connection_id=self.connection(pick).id)
