"""Whatever links report, and whatever becomes of the messages: ends are applied last, and marks are said last."""

from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.reports.message import Message
from gateway.reports.outbox import ENDS
from persistence.schema.ids import ConnectionId
from support.gateway.reports import Bench, items, said

KINDS = ("job_started", *["job_progress"] * 3, "jobs_discovered", "job_completed", "job_failed")
LINKS = ("C", "D")

_FRAMES = st.tuples(st.just("report"), st.sampled_from(LINKS), st.sampled_from("ab"), st.sampled_from(KINDS))
_BEATS = st.tuples(st.just("beat"), st.sampled_from(LINKS), st.integers(0, 9))
_ENDS = st.tuples(st.just("end"), st.sampled_from(LINKS), st.booleans())
_MESSAGES = st.tuples(st.sampled_from(["apply", "apply", "apply", "lose"]), st.integers(0, 1_000))
_OTHERS = st.sampled_from(
    [
        *[("publish",)] * 5,
        *[("look_up",)] * 4,
        *[("fail", True), ("fail", False), ("find_broker",)],
        *[("wait", 0.02), ("wait", 2.0), ("wait", 5.0)],
    ]
)
ACTIONS = st.one_of(*[_FRAMES] * 8, _BEATS, *[_MESSAGES] * 5, *[_OTHERS] * 6)


class Reporting:
    """Two links with two attempts each, several workers, and a broker that may be away or forget messages."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.number = 0
        self.said: dict[tuple[str, str], list[int]] = defaultdict(list)
        """By attempt, the numbers of its frames in their order, without those that another one has replaced."""
        self.progress: dict[tuple[str, str], int] = {}
        """By attempt, its newest report of progress."""
        self.applied: set[int] = set()
        self.handled: set[str] = set()
        self.ended: dict[str, float] = {}
        """Links that have ended, and since when."""
        self.acks: list[int] = []

    def report(self, link: str, attempt: str, kind: str) -> None:
        """Report a frame, unless the link has ended."""
        if link in self.ended:
            return
        self.number += 1
        n, key, reports = self.number, (link, attempt), self.bench.reports
        before = reports._outbox.held.frames
        data: dict[str, Any] = {"n": n, "entityType": "issue", "discovered_jobs": []}
        reports.add(ConnectionId(link), said(kind, attempt, data), lambda: self.acks.append(n))
        if reports._outbox.held.frames > before:
            self.said[key].append(n)
        elif kind == "job_progress":
            numbers = self.said[key]
            numbers[numbers.index(self.progress[key])] = n
        if kind == "job_progress":
            self.progress[key] = n

    def beat(self, link: str, capacity: int) -> None:
        """Send a beat."""
        if link not in self.ended:
            self.bench.reports.beat(ConnectionId(link), {"capacity": capacity})

    def end(self, link: str, is_clean: bool) -> None:  # noqa: FBT001 - drawn by position
        """Let a link end."""
        self.ended[link] = self.bench.now
        if is_clean:
            self.bench.reports.goodbye(ConnectionId(link), "done")
        else:
            self.bench.reports.lost(ConnectionId(link), 1, "link")

    def publish(self) -> None:
        """Publish what is there."""
        self.check(self.bench.publish())

    def fail(self, arrives: bool) -> None:  # noqa: FBT001 - drawn by position
        """Publish, without knowing whether it worked."""
        messages = self.bench.reports._take()
        self.check(messages)
        if arrives:
            self.bench.workers.take(messages)
        self.bench.reports._in_flight.failed(messages)
        self.bench.reports.is_broker_there = False

    def find_broker(self) -> None:
        """Let the broker be back."""
        self.bench.reports.is_broker_there = True

    def apply(self, pick: int) -> None:
        """Let a worker apply any of the queued messages: several children, redeliveries, other orders."""
        if queue := self.bench.workers.queue:
            self.apply_message(queue.pop(pick % len(queue)))

    def lose(self, pick: int) -> None:
        """Let Redis lose a message."""
        if queue := self.bench.workers.queue:
            queue.pop(pick % len(queue))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.bench.now += seconds

    def look_up(self) -> None:
        """Look up what was handled."""
        self.bench.look_up()

    def apply_message(self, message: Message) -> None:
        """Apply a message once, and check the order in which it comes."""
        if message.id in self.handled:
            return
        self.handled.add(message.id)
        self.bench.workers.done.add(message.id)
        for item in items(message) if message.task == "crawler.frames" else ():
            frame = item["frame"]
            n = frame["data"]["n"]
            assert n not in self.applied
            self.applied.add(n)
            if frame["type"] in ENDS:
                numbers = self.said[item["connection_id"], frame["jobId"]]
                assert self.applied.issuperset(numbers[: numbers.index(n)]), "an end overtook other frames"

    def check(self, messages: list[Message]) -> None:
        """Check what is being published: of each link one beat, and its end only as the last thing, and in time."""
        for message in messages:
            if message.task in ("connections.lost", "connections.disconnect"):
                (link,) = [link for link in LINKS if f'"{link}"'.encode() in message.arguments]
                assert not self.bench.reports.has_unhandled(ConnectionId(link))
                assert self.bench.now < self.ended[link] + 10
        in_flight = self.bench.reports._in_flight._messages.values()
        beats = [m for m in in_flight if m.task == "connections.heartbeat"]
        senders = [item["connection_id"] for message in beats for item in items(message)]
        assert len(senders) == len(set(senders))

    def finish(self) -> None:
        """Let everything work again: all is handled, and every frame is acknowledged once."""
        for _ in range(10):
            self.bench.now += 300.0
            self.bench.publish()
            for message in list(self.bench.workers.queue):
                self.apply_message(message)
            self.bench.workers.queue.clear()
            self.bench.look_up()
        reports = self.bench.reports
        assert not reports._is_busy
        assert reports.held_bytes == 0
        assert (reports._outbox._attempts, reports._outbox._connections) == ({}, {})
        assert sorted(self.acks) == list(range(1, self.number + 1))


@settings(max_examples=150, deadline=None)
@given(actions=st.lists(ACTIONS, min_size=20, max_size=80), ends=st.lists(_ENDS, max_size=2))
def test_no_end_overtakes_anything(actions: list[Any], ends: list[Any]) -> None:
    """Whatever is delayed, lost, repeated, and handled by whichever worker first."""
    reporting = Reporting()

    for name, *arguments in [*actions, *ends, *actions[:20]]:
        getattr(reporting, name)(*arguments)

    reporting.finish()
