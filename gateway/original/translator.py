"""
The dialect of the platform's original crawler, translated into protocol 1.

That crawler knows neither hello, acknowledgement nor cancel, and its heartbeats say nothing. So each of its links has
a translator, which is a crawler of protocol 1 for the gateway: it keeps the session, beats, answers pings, repeats what
is not acknowledged, and hands over one job at a time. To the crawler it sends what its server used to send.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog

from gateway.listeners.peer import Peer
from gateway.listeners.transport import Receiver, Transport
from gateway.original import frames
from gateway.original.crawlers import Job, OriginalCrawlers

log = structlog.get_logger()

FRAME_LIMIT: Final = 8 * 2**20
"""Of a discovery; it may be the first thing that comes over a new link."""

SILENCE: Final = 90.0
"""Seconds. It sends something every 5 s, but nothing while it lists a large group, for over a minute."""

TOKEN_PATIENCE: Final = 10.0
"""Seconds in which to look for a newer token. The crawler waits 15 s for an answer, and is busy until it has one."""

IDLE_REQUESTS: Final = 2
"""
It asks for work when it connects, even if it works, and then every 5 s only while it has none. So the first request of
a link says nothing, and the first one after an order may have crossed it; the second one says that it is idle.
"""

_ENDS = frozenset({"job_completed", "job_failed"})
_REPORTS = frozenset({"job_started", "job_progress", "jobs_discovered", "discovery"})

TokenOf = Callable[[str, str], Awaitable[str | None]]
"""Tells the token that the account of an attempt has now, by connection id and crawler_job_id."""


class Translator:
    """One link of an original crawler: a transport for a link of protocol 1, and the receiver of a socket."""

    frame_limit = FRAME_LIMIT

    def __init__(
        self,
        transport: Transport,
        crawlers: OriginalCrawlers,
        token_of: TokenOf,
        connect: Callable[[Transport], Receiver],
    ) -> None:
        """Translate for the link of protocol 1 that *connect* makes."""
        self._transport = transport
        self._crawlers = crawlers
        self._crawler = crawlers.find(transport.peer)
        self._token_of = token_of
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._beat: asyncio.TimerHandle | None = None
        self._last_frame = self._loop.time()
        self._said_hello = self._welcomed = self._closed = False
        self._early: list[bytes] = []
        """What came before the welcome."""
        self._pauses = {"early": False, "link": False}
        self._requests = 0
        self._is_idle = False
        self._capacity = 0
        self._link = connect(self)

    # The transport of the link

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""
        return self._transport.peer

    @property
    def unsent(self) -> int:
        """Bytes that the crawler has not taken yet."""
        return self._transport.unsent

    def send(self, frame: bytes) -> None:
        """Take a frame of the gateway. Most of them are for the translator alone."""
        parsed = orjson.loads(frame)
        data = parsed.get("data") or {}
        match parsed["type"]:
            case "welcome":
                self._on_welcome(data)
            case "job_response":
                self._take(data["jobs"])
            case "job_revoked":
                self._revoke(parsed["jobId"])
            case "ack":
                self._crawler.kept.pop(data["id"], None)
            case "ping" if self._is_alive():
                self._say("pong", data)
            case "error":
                log.warning("original_crawler_refused", crawler=self._crawler.name, code=data["code"])
                self._crawler.kept.pop(data.get("id", ""), None)

    def ping(self) -> bool:
        """Leave it to a frame, which the translator answers."""
        return False

    def authenticated(self) -> None:
        """Note that the crawler is known."""
        self._transport.authenticated()

    def close(self) -> None:
        """Close after what was sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def pause_reading(self) -> None:
        """Read no more."""
        self._pause("link", on=True)

    def resume_reading(self) -> None:
        """Read again."""
        self._pause("link", on=False)

    def _pause(self, who: str, *, on: bool) -> None:
        self._pauses[who] = on
        if any(self._pauses.values()):
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # The receiver of the socket

    def frame_received(self, frame: bytes) -> None:
        """Take a frame of the crawler; the first one makes it known to the gateway."""
        self._last_frame = self._loop.time()
        if self._welcomed:
            self._translate(frame)
            return
        self._early.append(frame)
        if not self._said_hello:
            self._said_hello = True
            self._pause("early", on=True)
            self._say_hello()

    def ponged(self) -> None:
        """Nothing is asked of its socket."""

    def broken(self, code: str, message: str) -> None:
        """Let the link close: what came is no frame."""
        self._loop.call_soon(self._link.broken, code, message)

    def closed(self, error: Exception | None) -> None:
        """Note that the socket is closed. What is known of the crawler stays, for its next link."""
        self._closed = True
        if self._beat:
            self._beat.cancel()
        for task in self._tasks:
            task.cancel()
        if self._crawler.link is self:
            self._crawler.link = None
        self._loop.call_soon(self._link.closed, error)

    # What the gateway says

    def _say_hello(self) -> None:
        crawler = self._crawler
        crawler.link = self
        # Greater than before, also after this process was started again.
        crawler.n = max(crawler.n + 1, int(datetime.now(UTC).timestamp() * 1000))
        session = {"session": crawler.session} if crawler.session else {}
        hello = {"protocol": 1, "crawlerId": crawler.name, "n": crawler.n, "capacity": 0}
        self._say("hello", hello | session | {"activeJobs": crawler.active()})

    def _on_welcome(self, data: dict[str, Any]) -> None:
        crawler = self._crawler
        if crawler.session != data["session"]:
            # What it held is others' by now.
            crawler.session = data["session"]
            crawler.kept.clear()
            self._crawlers.keep_session(self.peer, crawler)
        crawler.connection_id = data["connectionId"]
        listed = {order["id"] for order in data["jobs"]}
        crawler.waiting = {id_: job for id_, job in crawler.waiting.items() if id_ in listed}
        if crawler.current and crawler.current.id not in listed:
            crawler.current.over = True
        self._welcomed = True
        for _, frame in list(crawler.kept.values()):
            self._to_link(frame)
        self._take(data["jobs"])
        self._beat_every(data["heartbeatInterval"])
        self._last_frame = self._loop.time()
        early, self._early = self._early, []
        for frame in early:
            self._translate(frame)
        self._pause("early", on=False)

    def _take(self, orders: list[dict[str, Any]]) -> None:
        crawler = self._crawler
        for order in orders:
            id_ = order["id"]
            if crawler.current and crawler.current.id == id_:
                crawler.current.order = order
            elif id_ not in crawler.ended:
                crawler.waiting[id_] = Job(id_, order)
        self._hand_over()

    def _revoke(self, job_id: str) -> None:
        """Drop an order; what the crawler works on cannot be stopped, and takes its slot until it ends."""
        crawler = self._crawler
        crawler.waiting.pop(job_id, None)
        if crawler.current and crawler.current.id == job_id:
            crawler.current.over = True
            self._offer(0)

    def _hand_over(self) -> None:
        """Give the crawler its next job, if it is known to have none."""
        crawler = self._crawler
        while self._is_idle and not crawler.current and crawler.waiting and crawler.link is self:
            job = crawler.waiting.pop(next(iter(crawler.waiting)))
            if frames.leads_astray(job.order["entityId"]):
                self._refuse(job)
                continue
            job.token, job.link, job.requests = job.order["accessToken"], self, 0
            crawler.current, self._is_idle = job, False
            self._transport.send(frames.job_response(job.order))

    def _refuse(self, job: Job) -> None:
        error = "the original crawler would put this entityId into its URLs and file names"
        data = {"error": error, "errorType": "UnsafeEntityId", "isRecoverable": True}
        end = {"type": "job_failed", "timestamp": frames.now(), "jobId": job.id, "data": data}
        self._pass_on(job.id, orjson.dumps(end))
        self._crawler.note_end(job.id)

    # What the crawler says

    def _translate(self, frame: bytes) -> None:
        try:
            parsed = orjson.loads(frame)
        except orjson.JSONDecodeError:
            self._to_link(frame)  # which counts it as malformed
            return
        kind, job_id = parsed.get("type"), parsed.get("jobId")
        if kind == "job_request":
            self._on_request()
        elif isinstance(job_id, str) and job_id not in self._crawler.ended:
            self._on_report(kind, job_id, frame)
        # else: a heartbeat, which says nothing, or about what it has ended already

    def _on_report(self, kind: str, job_id: str, frame: bytes) -> None:
        crawler = self._crawler
        if job_id in crawler.waiting:
            # It was handed over before this process was started.
            crawler.current = crawler.waiting.pop(job_id)
        job = crawler.current if crawler.current and crawler.current.id == job_id else None
        is_over = job is not None and job.over
        if kind == "token_refresh_request":
            self._later(self._answer_token(job, job_id, frame))
        elif kind in _REPORTS and not is_over:
            self._pass_on(job_id, frame)
        elif kind in _ENDS:
            if not is_over:
                self._pass_on(job_id, frame)
            crawler.note_end(job_id)
            if job:
                self._free(job)

    def _on_request(self) -> None:
        self._requests += 1
        crawler = self._crawler
        job = crawler.current
        if job:
            job.requests = job.requests + 1 if job.link is self else self._requests
        if (job.requests if job else self._requests) < IDLE_REQUESTS:
            return
        crawler.current, self._is_idle = None, True
        if job and not job.over:
            # The order, or what was said about its end, was lost with a link.
            job.again = True
            crawler.waiting = {job.id: job} | crawler.waiting
        self._offer(1)
        self._hand_over()

    def _free(self, job: Job) -> None:
        """Note that the crawler has ended its job, and hand over the next one."""
        self._crawler.current = None
        if job.again:
            # It may do the job once more: wait until it asks for work again.
            self._requests = 0
            return
        self._is_idle = True
        self._offer(1)
        self._hand_over()

    async def _answer_token(self, job: Job | None, job_id: str, frame: bytes) -> None:
        """Give the crawler the token that its account has by now; else end the job, here and there."""
        if job is None or job.over:
            self._transport.send(frames.token_refresh_response(job_id, None))
            return
        token = await self._newer_token(job)
        if token is None and not job.over:
            # The crawler fails the job now, which is no news, and is free after that.
            job.over = True
            self._pass_on(job_id, frame)
        job.token = token
        self._transport.send(frames.token_refresh_response(job_id, token))

    async def _newer_token(self, job: Job) -> str | None:
        try:
            async with asyncio.timeout(TOKEN_PATIENCE):
                token = await self._token_of(self._crawler.connection_id, job.id)
        except Exception as error:  # noqa: BLE001 - whatever it is, the crawler waits for an answer
            log.warning("token_not_read", crawler=self._crawler.name, error=type(error).__name__)
            return None
        return token if token != job.token else None

    # What both of them are told

    def _to_link(self, frame: bytes) -> None:
        """Give a frame to the link; later, since the link may be in the middle of giving one to us."""
        self._loop.call_soon(self._link.frame_received, frame)

    def _pass_on(self, job_id: str, frame: bytes) -> None:
        """Give a frame an id, and keep it until it is acknowledged."""
        crawler = self._crawler
        crawler.frames += 1
        id_ = f"{crawler.n}-{crawler.frames}"
        named = b'{"id":"%s",%s' % (id_.encode(), frame.lstrip()[1:])
        crawler.kept[id_] = (job_id, named)
        self._to_link(named)

    def _offer(self, capacity: int) -> None:
        """Say how many jobs the crawler may hold."""
        if self._capacity != capacity:
            self._capacity = capacity
            self._say("job_request", {"capacity": capacity})

    def _say(self, kind: str, data: dict[str, Any]) -> None:
        self._to_link(orjson.dumps({"type": kind, "timestamp": frames.now(), "data": data}))

    def _beat_every(self, seconds: float) -> None:
        if self._closed:
            return
        self._beat = self._loop.call_later(seconds, self._beat_once, seconds)

    def _beat_once(self, seconds: float) -> None:
        if self._is_alive():
            active = self._crawler.active()
            self._say("heartbeat", {"activeJobs": active, "systemStatus": "processing" if active else "idle"})
        self._beat_every(seconds)

    def _is_alive(self) -> bool:
        return self._loop.time() - self._last_frame < SILENCE

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
