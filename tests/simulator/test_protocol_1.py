"""The crawler's side of protocol 1: sessions, what is kept until it is acknowledged, and links that break."""

import json
import socket
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from console.simulator.counters import FleetCounts
from console.simulator.protocol_1 import Protocol1Session, Protocol1Sessions
from console.simulator.sessions import Order

Frame = dict[str, Any]


class FakeCrawler:
    """Does what its session tells it, and remembers it."""

    name, capacity = "crawler-a", 2

    def __init__(self) -> None:
        self.work: dict[str, Order] = {}
        self.undelivered: list[str] = []

    def fences(self) -> list[str]:
        """What it works on."""
        return list(self.work)

    def accept(self, order: Order) -> None:
        """Take an order; never twice."""
        assert order.fence not in self.work
        self.work[order.fence] = order

    def revoke(self, fence: str) -> None:
        """Drop an order."""
        self.work.pop(fence, None)

    def keep_only(self, fences: Collection[str]) -> None:
        """Drop all others."""
        self.work = {fence: order for fence, order in self.work.items() if fence in fences}

    def on_undelivered(self, fence: str) -> None:
        """Note it."""
        self.undelivered.append(fence)


class FakeGateway:
    """A gateway on a Unix socket with one crawler; a test says what it answers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts = FleetCounts()
        self.crawler = FakeCrawler()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(0)
        self.sessions = Protocol1Sessions([f"unix:{path}"], self.counts, secret="a secret")
        self.session: Protocol1Session = self.sessions.open(self.crawler)
        self._link: socket.socket | None = None
        self._read = b""

    def close(self) -> None:
        """Close all sockets."""
        self.sessions.close()
        self.cut()
        self._listener.close()

    def until(self, done: Callable[[], object]) -> Any:
        """Step until *done* returns something."""
        deadline = time.monotonic() + 10
        while not (found := done()):
            assert time.monotonic() < deadline
            self.session._due = min(self.session._due, time.monotonic())  # no pause between two attempts
            self.sessions.step(0.01)
        return found

    def hello(self) -> Frame:
        """Accept a link and return its hello."""
        self._link, _ = self.until(self._accept)
        self._link.settimeout(0)
        return self.heard("hello")

    def _accept(self) -> Any:
        try:
            return self._listener.accept()
        except BlockingIOError:
            return None

    def welcome(self, *fences: str, session: str = "S1") -> None:
        """Welcome the crawler, with these orders."""
        welcome = {
            "connectionId": "C",
            "session": session,
            "jobs": [order(f) for f in fences],
            "heartbeatInterval": 30,
        }
        before = self.counts.links
        self.say("welcome", **welcome)
        self.until(lambda: self.counts.links > before)

    def say(self, kind: str, fence: str | None = None, **data: Any) -> None:
        """Send a frame."""
        assert self._link
        self._link.sendall(json.dumps({"type": kind, "jobId": fence, "data": data}).encode() + b"\n")

    def heard(self, kind: str) -> Frame:
        """The next frame, which is of this type."""
        frame: Frame = self.until(self._next)
        assert frame["type"] == kind
        return frame

    def _next(self) -> Frame | None:
        assert self._link
        with suppress(BlockingIOError):
            self._read += self._link.recv(65_536)
        line, found, rest = self._read.partition(b"\n")
        if not found:
            return None
        self._read = rest
        frame: Frame = json.loads(line)
        return frame

    def cut(self) -> None:
        """Close the link."""
        if self._link:
            self._link.close()
        self._link, self._read = None, b""


def order(fence: str) -> Frame:
    """An order, as it is sent."""
    return {
        "id": fence,
        "entityType": "project",
        "entityId": "1",
        "gitlabUrl": "https://x.test",
        "accessToken": "t",
    }


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[FakeGateway]:
    """A gateway, with a crawler that connects to it."""
    gateway = FakeGateway(tmp_path / "g")
    yield gateway
    gateway.close()


def test_a_crawler_says_hello_and_takes_its_orders(gateway: FakeGateway) -> None:
    """The first hello has no session; an order that it has already changes nothing."""
    assert gateway.hello()["data"] == {
        "protocol": 1, "crawlerId": "crawler-a", "n": 1, "capacity": 2, "secret": "a secret"
    }  # fmt: skip
    gateway.welcome("F1")
    gateway.say("job_response", jobs=[order("F1"), order("F2")])
    gateway.until(lambda: gateway.crawler.fences() == ["F1", "F2"])
    gateway.say("ping", nonce="x")
    assert gateway.heard("pong")["data"] == {"nonce": "x"}
    assert gateway.session.is_open


def test_an_end_is_kept_until_it_is_acknowledged(gateway: FakeGateway) -> None:
    """The link breaks: the crawler comes back with its session and a greater n, and says the end again, unchanged."""
    gateway.hello()
    gateway.welcome("F1", "F2")
    gateway.crawler.revoke("F1")
    gateway.session.send("job_completed", "F1", success=True)
    said = gateway.heard("job_completed")
    gateway.cut()

    hello = gateway.hello()["data"]
    assert (hello["n"], hello["session"], hello["activeJobs"]) == (2, "S1", ["F2", "F1"])
    gateway.welcome("F1", "F2")
    assert gateway.heard("job_completed") == said
    assert gateway.crawler.fences() == ["F2"]
    assert gateway.sessions.unsent == 1
    gateway.say("ack", id=said["id"])
    gateway.until(lambda: gateway.sessions.unsent == 0)
    assert gateway.counts.links_resumed == 1


def test_what_a_welcome_does_not_list_is_dropped(gateway: FakeGateway) -> None:
    """Others have it; the connection is a new one, and refuses what was kept."""
    gateway.hello()
    gateway.welcome("F1", "F2")
    gateway.crawler.revoke("F2")
    gateway.session.send("job_completed", "F2", success=True)
    gateway.heard("job_completed")
    gateway.cut()

    gateway.hello()
    gateway.welcome("F3", session="S2")
    assert gateway.crawler.fences() == ["F3"]
    frame = gateway.heard("job_completed")
    gateway.say("error", code="unknown_job", message="", closes=False, id=frame["id"])
    gateway.until(lambda: gateway.crawler.undelivered == ["F2"])
    assert gateway.sessions.unsent == 0


def test_a_revoked_job_is_forgotten_and_its_slot_freed(gateway: FakeGateway) -> None:
    """A heartbeat says at once that it is not worked on any more."""
    gateway.hello()
    gateway.welcome("F1")
    gateway.session.send("jobs_discovered", "F1", discovered_jobs=[])
    gateway.heard("jobs_discovered")
    gateway.say("job_revoked", "F1", reason="Cancelled")
    assert gateway.heard("heartbeat")["data"] == {"activeJobs": [], "systemStatus": "idle"}
    assert (gateway.sessions.unsent, gateway.crawler.undelivered) == (0, ["F1"])


def test_a_frozen_crawler_learns_late_that_it_was_given_up(gateway: FakeGateway) -> None:
    """It reads nothing, and answers nothing; awake, it begins a new session."""
    gateway.hello()
    gateway.welcome("F1")
    gateway.session.freeze()
    gateway.say("ping", nonce="x")
    gateway.say("error", code="connection_closed", message="", closes=True)
    gateway.until(lambda: gateway.session.is_given_up)
    assert gateway.crawler.fences() == ["F1"]
    gateway.session.wake_up()
    assert gateway.crawler.fences() == []
    gateway.cut()
    assert "session" not in gateway.hello()["data"]


def test_a_crawler_leaves_with_a_goodbye_or_dies_without_a_word(gateway: FakeGateway) -> None:
    """After a goodbye it waits for the gateway to close the link."""
    gateway.hello()
    gateway.welcome()
    gateway.session.leave()
    gateway.heard("goodbye")
    gateway.cut()
    gateway.until(lambda: gateway.session.phase.name == "GONE")

    gateway.session = gateway.sessions.open(gateway.crawler)
    gateway.hello()
    gateway.session.die()
    assert gateway._link is not None
    assert gateway._link.recv(1) == b""
