"""
Many crawlers of protocol 1 in one process of their own, so that their work is not the gateway's.

The first line of the standard input describes them: the fields of `Crowd` in JSON, a secret among them. Each holds a
link, beats, answers pings, comes back with its session after a random pause, and keeps its orders; with `ends` it ends
each at once. Another line, `flood N`, makes each report progress without end, with at most N frames that are not
acknowledged; `quiet` ends that. The process ends with its standard input.

It prints a line of JSON a time: `all` when each has been welcome so many times, `order` for each order of a probe, and
`tick` twice a second. `at` is of the monotonic clock, which all processes of a machine share.
"""

import asyncio
import json
import random
import resource
import ssl
import sys
import time
from asyncio.sslproto import SSLProtocol
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

PROBE: Final = "probe/"
"""Begins the path of a job that is timed."""

_BYTES: Final = 2**23
_TICK_S: Final = 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
_STARTS_A_SECOND: Final = 500
_CONNECT_S: Final = 30.0


class Link(Protocol):
    """A link, whatever it runs over."""

    async def send(self, text: str) -> None:
        """Send frames, a line each."""

    def frames(self) -> AsyncIterator[str | bytes]:
        """Yield the gateway's frames until the link ends."""

    async def close(self) -> None:
        """Let go of it."""


@dataclass
class Lines:
    """A link over TCP, TLS or a Unix socket."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, text: str) -> None:
        """Send frames, a line each."""
        self.writer.write(text.encode())
        await self.writer.drain()

    async def frames(self) -> AsyncIterator[str | bytes]:
        """Yield the gateway's frames until the link ends."""
        while line := await self.reader.readline():
            yield line

    async def close(self) -> None:
        """Let go of it."""
        self.writer.close()


@dataclass
class Messages:
    """A link over WebSocket."""

    socket: ClientConnection

    async def send(self, text: str) -> None:
        """Send frames, a line each."""
        for line in text.splitlines():
            await self.socket.send(line)

    async def frames(self) -> AsyncIterator[str | bytes]:
        """Yield the gateway's frames until the link ends."""
        async for message in self.socket:
            yield message

    async def close(self) -> None:
        """Let go of it."""
        await self.socket.close()


@dataclass
class Crowd:
    """What all crawlers of the process share."""

    addresses: list[str]
    count: int
    capacity: int
    secret: str | None = None
    authority: str | None = None
    spare: list[str] = field(default_factory=list)
    """Addresses that crawlers try in turn with the others once they have been welcome."""
    ends: bool = False
    window: int = 0
    """Frames that a crawler may have unacknowledged, while all report as fast as they may."""
    counts: Counter[str] = field(default_factory=Counter)
    welcomes: Counter[int] = field(default_factory=Counter)
    """How many crawlers have been welcome at least so many times."""
    tls: ssl.SSLContext | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.authority:
            self.tls = ssl.create_default_context(cafile=self.authority)

    async def open(self, n: int, *, is_known: bool) -> Link:
        """Open the n-th link of a crawler, which is known or not. Raises OSError, WebSocketException."""
        addresses = [*self.addresses, *(self.spare if is_known else ())]
        address = addresses[n % len(addresses)]
        parts = urlsplit(address)
        if parts.scheme == "unix":
            return Lines(*await asyncio.open_unix_connection(parts.path, limit=_BYTES))
        if parts.scheme == "ws":
            return Messages(await connect(address, proxy=None, compression=None, ping_interval=None))
        tls = self.tls if parts.scheme == "tls" else None
        return Lines(*await asyncio.open_connection(parts.hostname, parts.port, limit=_BYTES, ssl=tls))

    def welcomed(self, times: int) -> None:
        """Note that a crawler has been welcome so many times."""
        self.welcomes[times] += 1
        if self.welcomes[times] == self.count:
            say("all", times=times, fresh=self.counts["fresh"])


@dataclass
class Crawler:
    """One crawler."""

    all: Crowd
    number: int
    n: int = 0
    session: str | None = None
    welcomes: int = 0
    jobs: dict[str, int] = field(default_factory=dict)
    """Its live orders, each with the pages that it has reported."""
    unacknowledged: int = 0
    pause: float = 0
    interval: float = 30
    link: Link | None = None

    async def run(self) -> None:
        """Hold a link, for ever."""
        await asyncio.sleep(self.number / _STARTS_A_SECOND)
        failures = 0
        while True:
            before = self.welcomes
            with suppress(OSError, TimeoutError, WebSocketException):
                await self._hold()
            failures = 0 if self.welcomes > before else failures + 1
            longest = min(_FIRST_PAUSE_S * 2**failures, _LONGEST_PAUSE_S)
            await asyncio.sleep(self.pause or random.uniform(0, longest))
            self.pause = 0

    async def _hold(self) -> None:
        self.n += 1
        link = await asyncio.wait_for(self.all.open(self.n, is_known=self.welcomes > 0), _CONNECT_S)
        said: dict[str, Any] = {"protocol": 1, "crawlerId": f"crawler-{self.number}", "n": self.n}
        said |= {"capacity": self.all.capacity, "activeJobs": list(self.jobs)}
        said |= {"secret": self.all.secret} if self.all.secret else {}
        said |= {"session": self.session} if self.session else {}
        beating = asyncio.create_task(self._beat(link))
        welcome = False
        try:
            await link.send(frame("hello", **said))
            async for text in link.frames():
                got = json.loads(text)
                if got["type"] == "welcome":
                    welcome = True
                    self.all.counts["open"] += 1
                await self._take(link, got)
        finally:
            self.link = None
            self.all.counts["open"] -= welcome
            beating.cancel()
            await link.close()

    async def _beat(self, link: Link) -> None:
        """Beat at the gateway's interval; not all crawlers at the same time, since their welcomes were not either."""
        while True:
            await asyncio.sleep(self.interval)
            if self.link:
                await link.send(frame("heartbeat", activeJobs=list(self.jobs)))

    async def _take(self, link: Link, got: dict[str, Any]) -> None:
        data = got.get("data", {})
        match got["type"]:
            case "ack":
                self.unacknowledged -= 1
                self.all.counts["acknowledged"] += 1
                if 2 * self.unacknowledged <= self.all.window:
                    await self.flood()
            case "job_response":
                await self._order(link, data["jobs"])
            case "ping":
                await link.send(frame("pong", nonce=data["nonce"]))
            case "job_revoked":
                self.jobs.pop(got["jobId"], None)
                self.all.counts["revoked"] += 1
            case "shutdown":
                self.pause = data["reconnectAfterSeconds"]
            case "error":
                self.all.counts[data["code"]] += 1
                self.pause = data.get("retryAfterSeconds") or 0
            case "welcome":
                self.all.counts["fresh"] += bool(self.session) and data["session"] != self.session
                self.session, self.interval, self.link = data["session"], data["heartbeatInterval"], link
                self.unacknowledged = 0
                listed = {job["id"] for job in data["jobs"]}
                self.jobs = {fence: page for fence, page in self.jobs.items() if fence in listed}
                await self._order(link, data["jobs"])
                self.welcomes += 1
                self.all.welcomed(self.welcomes)

    async def _order(self, link: Link, jobs: list[dict[str, Any]]) -> None:
        for job in jobs:
            fence = job["id"]
            if (job.get("entityId") or "").startswith(PROBE):
                say("order", of=job["entityId"].removeprefix(PROBE))
            if fence not in self.jobs:
                self.jobs[fence] = 0
                self.all.counts["orders"] += 1
                await self._begin(link, fence)

    async def _begin(self, link: Link, fence: str) -> None:
        text = frame("job_started", fence)
        if self.all.ends:
            text += frame("job_progress", fence, stage="fetching", entityType="issue", processed=10, total=20)
            text += frame("job_completed", fence, fence, success=True, finalCounts={"issue": 20})
            del self.jobs[fence]
        await link.send(text)

    async def flood(self) -> None:
        """Report progress until as many frames are not acknowledged as may be."""
        if not self.link or not self.jobs:
            return
        texts, fences = [], list(self.jobs)
        while self.unacknowledged < self.all.window:
            fence = fences[len(texts) % len(fences)]
            self.jobs[fence] += 1
            page = self.jobs[fence]
            told = {"stage": "fetching", "entityType": "issue", "processed": 20 * page, "currentPage": page}
            told["resumeState"] = {"currentPage": page, "entityType": "issue"}
            texts.append(frame("job_progress", fence, f"{fence}-{page}", **told))
            self.unacknowledged += 1
        if texts:
            await self.link.send("".join(texts))


def frame(kind: str, job: str | None = None, id_: str | None = None, **data: Any) -> str:
    """Return the line of one frame."""
    made: dict[str, Any] = {"type": kind, "timestamp": datetime.now(UTC).isoformat(), "data": data}
    made |= {"jobId": job} if job else {}
    made |= {"id": id_} if id_ else {}
    return json.dumps(made) + "\n"


def say(what: str, **facts: Any) -> None:
    """Print one line."""
    sys.stdout.write(json.dumps({"what": what, "at": time.monotonic(), **facts}) + "\n")
    sys.stdout.flush()


async def _run(crowd: Crowd) -> None:
    crawlers = [Crawler(crowd, number) for number in range(crowd.count)]
    running = [asyncio.create_task(crawler.run()) for crawler in crawlers]
    running.append(asyncio.create_task(_tick(crowd)))
    while line := await asyncio.to_thread(sys.stdin.readline):
        kind, *rest = line.split()
        crowd.window = int(rest[0]) if kind == "flood" else 0
        for crawler in crawlers if crowd.window else ():
            await crawler.flood()
    for task in running:
        task.cancel()


async def _tick(crowd: Crowd) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        say("tick", counts=crowd.counts)


def main() -> None:
    """Run the crowd that the first line describes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    SSLProtocol.max_size = 4096  # else each link with TLS takes 280 KiB of ours
    factory = None
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415 - an extra

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_run(Crowd(**json.loads(sys.stdin.readline()))))


if __name__ == "__main__":
    main()
