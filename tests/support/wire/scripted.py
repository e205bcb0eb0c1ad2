"""A gateway that a test plays by hand, for crawlers that are programs of their own."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

TOKEN = "token-of-the-account"
SECRET = "cyc_secret-of-the-crawler"
LONG = 10.0


def order(id_: str, **more: Any) -> dict[str, Any]:
    """An order for a project."""
    return {
        "id": id_, "entityType": "project", "entityId": "42", "gitlabUrl": "https://gitlab.example",
        "accessToken": TOKEN,
    } | more  # fmt: skip


class Link:
    """One link of the crawler."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.hello: dict[str, Any] = {}

    def send(self, kind: str, data: dict[str, Any], **more: str) -> None:
        """Send a frame."""
        frame = {"type": kind, "timestamp": "2026-11-29T09:00:00Z", **more, "data": data}
        self._writer.write(json.dumps(frame).encode() + b"\n")

    async def next(self, *kinds: str) -> dict[str, Any]:
        """Return the next frame of one of these types."""
        async with asyncio.timeout(LONG):
            while True:
                line = await self._reader.readline()
                assert line, f"the crawler has closed its link; awaited: {kinds}"
                frame: dict[str, Any] = json.loads(line)
                if frame["type"] in kinds:
                    return frame

    async def is_quiet(self, seconds: float, *kinds: str) -> bool:
        """Wait; true if no frame of these types came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.next(*kinds)
                return False
        return True

    async def welcome(self, *jobs: dict[str, Any], session: str = "session-1", beat: float = 30) -> Self:
        """Read the hello and answer it."""
        self.hello = (await self.next("hello"))["data"]
        self.send(
            "welcome",
            {
                "connectionId": "C", "session": session, "jobs": list(jobs), "heartbeatInterval": beat,
                "maxFrameBytes": 2**20,
            },
        )  # fmt: skip
        return self

    async def close(self) -> None:
        """End the link."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


class Server:
    """Where the crawler connects to."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._command = command
        self._folder = folder
        self._links: asyncio.Queue[Link] = asyncio.Queue()
        self._all: list[Link] = []
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0

    async def start_crawler(self) -> None:
        """Start the program; also again."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, "127.0.0.1", str(self._port), "crawler-1",
            cwd=self._folder, env=os.environ | {"CRAWLER_SECRET": SECRET}, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    async def kill_crawler(self) -> None:
        """Kill it."""
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def link(self) -> Link:
        """Wait for its next link."""
        async with asyncio.timeout(LONG):
            return await self._links.get()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._all.append(Link(reader, writer))
        self._links.put_nowait(self._all[-1])

    @classmethod
    @asynccontextmanager
    async def of(cls, command: Sequence[str], folder: Path) -> AsyncIterator[Self]:
        """Listen, and start the crawler."""
        server = cls(command, folder)
        listening = await asyncio.start_server(server._accept, "127.0.0.1", 0)
        server._port = listening.sockets[0].getsockname()[1]
        await server.start_crawler()
        try:
            yield server
        finally:
            await server.kill_crawler()
            listening.close()
            for link in server._all:
                await link.close()


async def check_a_whole_life(command: Sequence[str], folder: Path) -> None:
    """Let a crawler work, lose links and its process, and keep what docs/wire-protocol.md says it owes."""
    async with Server.of(command, folder) as server:
        link = await (await server.link()).welcome()
        assert {key: link.hello[key] for key in ("protocol", "crawlerId", "secret", "n", "activeJobs")} == {
            "protocol": 1, "crawlerId": "crawler-1", "secret": SECRET, "n": 1, "activeJobs": [],
        }  # fmt: skip
        link.send("ping", {"nonce": "x"})
        assert (await link.next("pong"))["data"] == {"nonce": "x"}

        link.send("job_response", {"jobs": [order("A", resumeState={"currentPage": 2}), order("B")]})
        assert (await link.next("job_started"))["jobId"] == "A"
        assert (await link.next("job_started"))["jobId"] == "B"
        link.send("job_revoked", {"reason": "Cancelled"}, jobId="B")
        link.send("job_response", {"jobs": [order("A")]})
        progress = await link.next("job_progress")
        while progress["jobId"] != "A":
            progress = await link.next("job_progress")
        assert progress["data"]["resumeState"] == {"currentPage": 3}
        end = await link.next("job_completed")
        assert end["jobId"] == "A"
        assert await link.is_quiet(1.2, "job_started", "job_progress", "job_completed")

        # Its end is not acknowledged: it is said again, unchanged, and again after a restart of the gateway.
        await link.close()
        link = await (await server.link()).welcome(order("A"), beat=0.05)
        assert (link.hello["n"], link.hello["session"], link.hello["activeJobs"]) == (2, "session-1", ["A"])
        assert await link.next("job_completed", "job_started") == end
        assert (await link.next("heartbeat"))["data"]["activeJobs"] == ["A"]
        link.send("ack", {"id": end["id"]})
        while (await link.next("heartbeat"))["data"]["activeJobs"]:
            pass

        # A job that the welcome does not list is dropped, one that it lists goes on.
        link.send("job_response", {"jobs": [order("C"), order("D")]})
        await link.next("job_started")
        await link.next("job_started")
        link.send("shutdown", {
            "graceful": True, "timeoutSeconds": 5, "reason": "", "reconnectAfterSeconds": 0.3,
        })  # fmt: skip
        await link.close()
        closed = asyncio.get_running_loop().time()
        link = await server.link()
        assert asyncio.get_running_loop().time() - closed >= 0.25
        await link.welcome(order("C"))
        assert (link.hello["n"], sorted(link.hello["activeJobs"])) == (3, ["C", "D"])
        end = await link.next("job_completed", "job_started")
        assert (end["type"], end["jobId"]) == ("job_completed", "C")
        link.send("ack", {"id": end["id"]})

        # A process that was killed comes back under its session, and does what it held once more.
        link.send("job_response", {"jobs": [order("E")]})
        await link.next("job_started")
        await server.kill_crawler()
        await server.start_crawler()
        link = await (await server.link()).welcome(order("E", resumeState={"currentPage": 4}))
        assert (link.hello["n"], link.hello["session"], link.hello["activeJobs"]) == (4, "session-1", [])
        assert (await link.next("job_progress"))["data"]["resumeState"] == {"currentPage": 5}
        assert (await link.next("job_completed"))["jobId"] == "E"
