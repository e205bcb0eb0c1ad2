"""
A double of the platform's original crawler, which behaves on the wire as that one was seen to.

It is no crawler to copy: it writes its frames without a delimiter, counts braces in strings, shares one token between
its jobs, fails at its first progress, and loses what it has to say without a link. `pace` divides all of its times.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

TICK_S = 5.0
"""Between two heartbeats, two requests for work, two attempts to connect; and until its first progress."""
TOKEN_PATIENCE_S = 15.0
PATIENCE_S = 25.0
"""For how long it tries to connect the first time; twice as long after a loss."""

TASKS = {"merge_request": "fetch_merge_requests", "branch": "fetch_branches", "release": "fetch_releases"}
KNOWN = {"project", "group", "user", "issue", "commit", "pipeline", *TASKS}

SUMMARY = {"crawl_group": "total_groups", "crawl_project": "total_projects"}
NO_PROGRESS = "undefined is not an object (evaluating 'progress.estimatedTime.estimatedTimeRemaining')"

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class ApiError(Exception):
    """GitLab refused a request."""


@dataclass
class Listing:
    """What GitLab lists for one token, and how many seconds that takes."""

    found: list[dict[str, Any]]
    seconds: float = 0.1
    blocks: bool = False
    """Nothing else is done meanwhile, as with thousands of projects."""


@dataclass
class GitLab:
    """Tokens, and what each may see. A token that is not here is dead."""

    url: str
    listings: dict[str, Listing]
    asked: list[tuple[str, str]] = field(default_factory=list)
    """The entityId and the token of each listing that was asked for."""


@dataclass(eq=False)
class Work:
    """A job."""

    job: dict[str, Any]
    refreshed: bool = False
    answer: "asyncio.Future[dict[str, Any]] | None" = None


class OriginalCrawler:
    """The double. `run` returns its exit code."""

    def __init__(self, connect: Connect, gitlab: GitLab, pace: float = 50) -> None:
        self._connect = connect
        self._gitlab = gitlab
        self._pace = pace
        self._writer: asyncio.StreamWriter | None = None
        self._running: dict[str, Work] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._blocked_until = 0.0
        # Shared by all jobs, which is why it must never have two.
        self._token = ""
        self._newest = ""
        self._areas: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.most_at_once = 0
        self.links = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.before_refresh: Callable[[], object] = bool
        """Called before it asks for another token."""

    @property
    def is_connected(self) -> bool:
        """True while it has a link."""
        return self._writer is not None

    def errors(self) -> list[str]:
        """What its failed jobs said."""
        return [frame["data"]["error"] for frame in self.sent if frame["type"] == "job_failed"]

    async def run(self) -> int:
        """Connect, work, connect again; 0 when it has given up, 1 when an answer has killed it."""
        self.loop = asyncio.get_running_loop()
        ticking = asyncio.create_task(self._tick())
        try:
            while await self._reach(PATIENCE_S * (2 if self.links else 1)):
                await self._read()
                await self._sleep(TICK_S)
        except TypeError:
            return 1
        finally:
            for task in (ticking, *self._tasks):
                task.cancel()
            self._drop()
        return 0

    def cut(self) -> None:
        """Cut its link."""
        if self._writer:
            self._writer.transport.abort()

    # The link

    async def _reach(self, patience: float) -> bool:
        for _ in range(int(patience / TICK_S)):
            try:
                self._reader, self._writer = await self._connect()
            except OSError:
                await self._sleep(TICK_S)
                continue
            self.links += 1
            self._send("job_request", {})
            return True
        return False

    async def _read(self) -> None:
        buffer = ""
        with suppress(OSError):
            while chunk := await self._reader.read(65536):
                buffer += chunk.decode(errors="replace")
                while True:
                    end = _end_of_object(buffer)
                    if end is None:
                        break
                    text, buffer = buffer[:end], buffer[end:]
                    self._receive(json.loads(text))
        self._drop()

    def _drop(self) -> None:
        if self._writer:
            self._writer.close()
        self._writer = None

    def _send(self, kind: str, data: dict[str, Any], job_id: str | None = None) -> None:
        about = {"jobId": job_id} if job_id is not None else {}
        frame = {"type": kind, "timestamp": _now(), **about, "data": data}
        if self._writer is None or self._writer.is_closing():
            return  # and nobody will ever know
        self.sent.append(frame)
        self._writer.write(json.dumps(frame, separators=(",", ":"), ensure_ascii=False).encode())

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._sleep(TICK_S)
            if loop.time() < self._blocked_until:
                continue
            memory = dict.fromkeys(("rss", "heapTotal", "heapUsed", "external", "arrayBuffers"), 1)
            constants = {"activeJobs": 0, "totalProcessed": 0, "systemStatus": "idle"}
            self._send("heartbeat", constants | {"uptime": loop.time(), "memoryUsage": memory})
            if not self._running:
                self._send("job_request", {})

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._pace)

    # What it is told

    def _receive(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "job_response" and "data" in frame:
            for job in frame["data"]["jobs"]:  # null kills it
                if job["id"] not in self._running:
                    self._begin(job)
        elif frame["type"] == "token_refresh_response":
            work = self._running.get(frame.get("jobId", ""))
            if work and work.answer and not work.answer.done():
                work.answer.set_result(frame["data"])

    # What it does

    def _begin(self, job: dict[str, Any]) -> None:
        work = self._running[job["id"]] = Work(job)
        self.most_at_once = max(self.most_at_once, len(self._running))
        self._token, self._newest, self._areas = job["accessToken"], job["id"], []
        self._send("job_started", {"entityType": job["entityType"], "entityId": job["entityId"]}, job["id"])
        task = asyncio.get_running_loop().create_task(self._work(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, work: Work) -> None:
        try:
            await self._crawl(work)
        except ApiError as error:
            self._fail(work, str(error), "Error", full=True)
        except TimeoutError:
            self._fail(work, "Timeout waiting for token refresh", "Error")
        except KeyError as error:
            self._fail(work, f"{error.args[0]}", "Error")
        except ZeroDivisionError:
            self._fail(work, NO_PROGRESS, "TypeError")
        finally:
            self._running.pop(work.job["id"], None)

    async def _crawl(self, work: Work) -> None:
        job = work.job
        if job["entityType"] != "areas":
            kind = job["entityType"] if job["entityType"] in KNOWN else "project"
            raise ApiError(f"Unknown task type: {TASKS.get(kind, f'fetch_{kind}s')}")
        listing = await self._list(work)
        page = (job.get("resumeState") or {}).get("currentPage", 1)
        if page == 1:
            self._areas += listing.found
        is_late = listing.seconds > TICK_S
        if listing.blocks:
            self._blocked_until = asyncio.get_running_loop().time() + listing.seconds / self._pace
        await self._sleep(listing.seconds if listing.blocks or not is_late else TICK_S + 1)
        if is_late and not listing.blocks:
            raise ZeroDivisionError
        self._discover()
        if is_late:
            raise ZeroDivisionError
        done = "Job completed successfully" + (" after token refresh" if work.refreshed else "")
        counts = {"success": True, "finalCounts": {"areas": len(self._areas)}, "message": done}
        self._send("job_completed", counts, job["id"])

    async def _list(self, work: Work) -> Listing:
        url = work.job["gitlabUrl"].split("/api/")[0]
        if url != self._gitlab.url:
            raise ApiError("API request failed with status 404: Not Found")
        self._gitlab.asked.append((work.job["entityId"], self._token))
        if self._token in self._gitlab.listings:
            return self._gitlab.listings[self._token]
        self.before_refresh()
        self._send("token_refresh_request", {}, work.job["id"])
        work.answer = asyncio.get_running_loop().create_future()
        answer = await asyncio.wait_for(work.answer, TOKEN_PATIENCE_S / self._pace)
        if not answer.get("accessToken") or not answer.get("expiresAt"):
            raise KeyError("token_refresh_response payload was incomplete")
        self._token, work.refreshed = answer["accessToken"], True
        return await self._list(work)

    def _discover(self) -> None:
        summary = {
            name: sum(area["job_type"] == kind for area in self._areas) for kind, name in SUMMARY.items()
        }
        self._send(
            "jobs_discovered", {"discovered_jobs": self._areas, "discovery_summary": summary}, self._newest
        )

    def _fail(self, work: Work, error: str, kind: str, *, full: bool = False) -> None:
        job = work.job
        context = {"jobId": job["id"], "timestamp": _now()}
        context |= {key: job[key] for key in ("entityType", "entityId", "gitlabUrl")}
        if full:
            context["fullError"] = {"name": kind, "message": error, "stack": f"{kind}: {error}\n    at …"}
        context["processingState"] = {"activeJobs": 1, "isProcessing": True, "isConnected": True}
        data = {
            "error": error,
            "errorType": kind,
            "isRecoverable": True,
            "stackTrace": f"{kind}: …\n    at …",
        }
        self._send("job_failed", data | {"context": context}, job["id"])


def _end_of_object(text: str) -> int | None:
    depth = 0
    for position, character in enumerate(text):
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return position + 1
    return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
