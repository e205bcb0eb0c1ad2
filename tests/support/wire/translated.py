"""An original crawler, the translator of its links, and a gateway of protocol 1 that a test plays by hand."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.listeners.addresses import read_addresses
from gateway.listeners.listeners import Listeners
from gateway.listeners.transport import Transport
from gateway.original.crawlers import OriginalCrawlers
from gateway.original.translator import Translator
from support.gateway.listening import LIMITS, until
from support.wire.original import GitLab, Listing, OriginalCrawler

PACE = 50.0
ENDS = ("job_completed", "job_failed", "token_refresh_request")


def area(path: str, number: int, kind: str = "crawl_project") -> dict[str, Any]:
    """What a listing finds."""
    return {
        "job_type": kind, "entity_id": str(number), "namespace_path": path, "entity_name": path, "priority": 1,
    }  # fmt: skip


def order(id_: str, token: str, **changes: Any) -> dict[str, Any]:
    """An order of protocol 1."""
    return {
        "id": id_, "entityType": "areas", "entityId": "gid://gitlab/Group/7", "gitlabUrl": "https://gitlab.example",
        "accessToken": token, "resumeState": {"currentPage": 2},
    } | changes  # fmt: skip


class Link:
    """One link of protocol 1, as the translator sees the gateway."""

    frame_limit = 2**23

    def __init__(self, transport: Transport, gateway: "Gateway") -> None:
        self.transport = transport
        self.gateway = gateway
        self.frames: list[dict[str, Any]] = []
        self.is_closed = False

    def frame_received(self, frame: bytes) -> None:
        """Note a frame, and answer a hello or, unless the test does that itself, acknowledge a report."""
        parsed = json.loads(frame)
        self.frames.append(parsed)
        if parsed["type"] == "hello":
            self.transport.authenticated()
            self.gateway.welcome(self, parsed["data"])
        elif parsed.get("id") and self.gateway.acknowledges:
            self.send("ack", {"id": parsed["id"]})
            if parsed["type"] in ENDS:
                self.gateway.live.pop(parsed["jobId"], None)

    def ponged(self) -> None:
        """Not asked for."""

    def broken(self, code: str, message: str) -> None:
        """Not expected."""
        raise AssertionError(code, message)

    def closed(self, _error: Exception | None) -> None:
        """Note the end."""
        self.is_closed = True

    def send(self, kind: str, data: dict[str, Any], **more: str) -> None:
        """Send a frame to the crawler."""
        self.transport.send(json.dumps({"type": kind, "timestamp": "T", **more, "data": data}).encode())

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """The frames of these types."""
        return [frame for frame in self.frames if frame["type"] in kinds]


class Gateway:
    """A gateway with one crawler."""

    def __init__(self, folder: Path, tokens: dict[str, str | None] | None = None, beat: float = 0.2) -> None:
        self.tokens = tokens or {}
        """The token that an account has by now, by the attempt."""
        self.links: list[Link] = []
        self.live: dict[str, dict[str, Any]] = {}
        self.session = "session-1"
        self.acknowledges = True
        self._beat = beat
        self._path = folder / "s"
        self.crawlers = OriginalCrawlers()
        self.listeners: Listeners

    @property
    def link(self) -> Link:
        """The newest link."""
        return self.links[-1]

    def sent(self, *kinds: str) -> list[dict[str, Any]]:
        """The frames of these types, of all links."""
        return [frame for link in self.links for frame in link.of(*kinds)]

    def ends(self) -> list[tuple[str, str]]:
        """The ends that were reported, in their order: type and job."""
        return [(frame["type"], frame["jobId"]) for frame in self.sent(*ENDS)]

    async def start(self) -> None:
        """Listen."""
        address = f"unix:{self._path}?trust=peer&dialect=original&crawler=old"
        self.listeners = Listeners(read_addresses(address), self._accept, LIMITS)
        await self.listeners.start()

    async def restart(self) -> None:
        """End this process without a word, and start another: it knows only what was kept in a file."""
        await self.stop()
        self.crawlers = OriginalCrawlers()
        await self.start()

    async def stop(self) -> None:
        """Close all."""
        await self.listeners.close()

    def crawler(self, gitlab: GitLab) -> OriginalCrawler:
        """A crawler that comes here."""
        return OriginalCrawler(lambda: asyncio.open_unix_connection(str(self._path)), gitlab, PACE)

    def give(self, *orders: dict[str, Any]) -> None:
        """Let these orders be there, and push them."""
        self.live |= {one["id"]: one for one in orders}
        self.link.send("job_response", {"jobs": list(orders)})

    def revoke(self, id_: str) -> None:
        """Revoke an order."""
        del self.live[id_]
        self.link.send("job_revoked", {"reason": "Cancelled"}, jobId=id_)

    def cut(self) -> None:
        """Cut the link."""
        self.link.transport.abort()

    def welcome(self, link: Link, hello: dict[str, Any]) -> None:
        """Answer a hello."""
        if hello.get("session") != self.session:
            self.live = {}
        link.send(
            "welcome",
            {
                "connectionId": "C", "session": self.session, "jobs": list(self.live.values()),
                "heartbeatInterval": self._beat, "maxFrameBytes": 2**20,
            },
        )  # fmt: skip

    def _accept(self, transport: Transport) -> Translator:
        return Translator(transport, self.crawlers, self._token_of, self._connect)

    def _connect(self, transport: Transport) -> Link:
        self.links.append(Link(transport, self))
        return self.link

    async def _token_of(self, _connection_id: str, job_id: str) -> str | None:
        if job_id not in self.tokens:
            await asyncio.sleep(3600)  # the database is away
        return self.tokens[job_id]


@asynccontextmanager
async def translated(
    folder: Path, listings: dict[str, Listing], tokens: dict[str, str | None] | None = None, **options: Any
) -> AsyncIterator[tuple[Gateway, OriginalCrawler, GitLab]]:
    """A gateway, and a crawler that has a link, is welcome, and is known to be idle."""
    gitlab = GitLab("https://gitlab.example", listings)
    gateway = Gateway(folder, tokens, **options)
    await gateway.start()
    crawler = gateway.crawler(gitlab)
    running = asyncio.create_task(crawler.run())
    try:
        await until(lambda: gateway.sent("job_request"))
        yield gateway, crawler, gitlab
    finally:
        running.cancel()
        await gateway.stop()
