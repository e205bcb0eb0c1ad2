"""A crawler of protocol 1 over a real socket, played by a test frame by frame."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PATIENCE_S = 30.0

Frame = dict[str, Any]


class Wire:
    """One link to a gateway."""

    def __init__(self, address: Path | tuple[str, int]) -> None:
        family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(str(address) if isinstance(address, Path) else address)
        self._read = b""
        self.frames: list[Frame] = []
        """What has come and was not asked for yet."""

    def send(self, kind: str, job: str | None = None, id_: str | None = None, **data: Any) -> Frame:
        """Send one frame, and return it."""
        frame: Frame = {"type": kind, "timestamp": datetime.now(UTC).isoformat()}
        frame |= {"jobId": job} if job else {}
        frame |= {"id": id_} if id_ else {}
        frame["data"] = data
        self.socket.sendall(json.dumps(frame).encode() + b"\n")
        return frame

    def send_raw(self, text: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(text)

    def receive(self, patience: float = PATIENCE_S) -> Frame | None:
        """Return the next frame; None at the end of the link. Pings are answered. Fails if none comes in time."""
        deadline = time.monotonic() + patience
        while b"\n" not in self._read:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                chunk = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not chunk:
                return None
            self._read += chunk
        line, self._read = self._read.split(b"\n", 1)
        frame: Frame = json.loads(line)
        if frame["type"] == "ping":
            self.send("pong", nonce=frame["data"]["nonce"])
        return frame

    def next(self, kind: str, matching: Callable[[Frame], bool] = lambda _: True) -> Frame:
        """Return the first frame of a kind, wherever it stands among those that come."""
        for place, frame in enumerate(self.frames):
            if frame["type"] == kind and matching(frame):
                return self.frames.pop(place)
        while True:
            received = self.receive()
            assert received is not None, f"the link ended; before that came {self.frames}"
            if received["type"] == kind and matching(received):
                return received
            self.frames.append(received)

    def has_nothing_for(self, seconds: float) -> bool:
        """True if no frame comes for so long."""
        try:
            return self.receive(seconds) is None
        except TimeoutError:
            return True

    def is_closed(self) -> bool:
        """Read to the end of the link."""
        while (frame := self.receive()) is not None:
            self.frames.append(frame)
        self.close()
        return True

    def close(self) -> None:
        """Cut the link."""
        self.socket.close()


class Crawler:
    """A crawler with its session, over one link after the other."""

    def __init__(self, address: Path | tuple[str, int], name: str = "one", **hello: Any) -> None:
        self.name = name
        self.n = 0
        self.session: str | None = None
        self.connection_id = ""
        self._address = address
        self._hello = hello
        self._frames = 0
        self._orders: list[Frame] = []
        self.old_wires: list[Wire] = []
        self.wire: Wire

    def connect(self, **hello: Any) -> Frame:
        """Open a link, say hello, and return the welcome."""
        self.say_hello(**hello)
        welcome = self.wire.next("welcome")["data"]
        self.session, self.connection_id = welcome["session"], welcome["connectionId"]
        return welcome

    def say_hello(self, **hello: Any) -> None:
        """Open a link, in the place of the one before, and say hello."""
        if hasattr(self, "wire"):
            self.wire.close()
        self.wire = Wire(self._address)
        self.n += 1
        session = {"session": self.session} if self.session else {}
        said = {"protocol": 1, "crawlerId": self.name, "n": self.n} | self._hello | session | hello
        self.wire.send("hello", **said)

    def move(self, address: Path | tuple[str, int]) -> None:
        """Connect to another gateway from now on, and leave the old link open, as after a network that fell silent."""
        self._address = address
        self.old_wires.append(self.wire)
        del self.wire

    def order(self) -> Frame:
        """Wait for the next order."""
        while not self._orders:
            self._orders += self.wire.next("job_response")["data"]["jobs"]
        return self._orders.pop(0)

    def report(self, kind: str, job: str, **data: Any) -> str:
        """Send a frame about a job that asks for an acknowledgement; returns its id."""
        self._frames += 1
        self.wire.send(kind, job, str(self._frames), **data)
        return str(self._frames)

    def acknowledged(self, id_: str) -> bool:
        """Wait until a frame is acknowledged."""
        return bool(self.wire.next("ack", lambda frame: frame["data"]["id"] == id_))

    def leave(self, reason: str = "the shift is over") -> bool:
        """Say goodbye, and wait until the gateway closes the link."""
        self.wire.send("goodbye", reason=reason)
        return self.wire.is_closed()


@contextmanager
def crawling(*crawlers: Crawler) -> Iterator[None]:
    """Cut the crawlers' links at the end."""
    try:
        yield
    finally:
        for crawler in crawlers:
            for wire in (*crawler.old_wires, *([crawler.wire] if hasattr(crawler, "wire") else ())):
                wire.close()
