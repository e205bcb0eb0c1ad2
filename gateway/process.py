"""
The gateway's process: its parts, how they are started, and how they end.

It ends within 25 s of SIGTERM, and by then every report that it took is handled, or is the crawlers' to say again. It
never says that a link is lost because it ends itself.
"""

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from socket import gethostname
from typing import Final

import structlog

from gateway.links.context import Context
from gateway.links.hello import Door
from gateway.links.link import Link
from gateway.links.registry import Registry
from gateway.links.watch import Watch
from gateway.listeners.addresses import read_addresses
from gateway.listeners.listeners import Listeners
from gateway.listeners.transport import Receiver, Transport
from gateway.orders.feed import Feed
from gateway.original.crawlers import OriginalCrawlers
from gateway.original.translator import Translator
from gateway.reports.broker import RedisBroker
from gateway.reports.reports import Reports
from persistence.schema.ids import ConnectionId
from persistence.settings import Settings, settings

log = structlog.get_logger()

FLUSH_S: Final = 5.0
CLOSE_S: Final = 6.0
SPREAD_S: Final = 10.0
"""Over how long the crawlers of a full gateway come back to another one."""
_LINKS_A_SECOND: Final = 500
_PR_SET_DUMPABLE: Final = 4


@dataclass
class Gateway:
    """The parts of a gateway."""

    name: str
    registry: Registry
    feed: Feed
    reports: Reports
    broker: RedisBroker
    door: Door
    watch: Watch
    listeners: Listeners

    @classmethod
    def of(cls, settings: Settings) -> "Gateway":
        """Make the parts. Raises SettingsError."""
        name = settings.gateway_name or gethostname()
        registry = Registry()
        feed = Feed(registry, registry.connections)
        registry.orders = feed
        broker = RedisBroker(
            settings.broker_url,
            queue_prefix=settings.queue_prefix,
            deployment=settings.deployment,
            origin=name,
        )
        reports = Reports(broker, feed.handled, on_room=registry.room)
        door = Door(feed.credentials)
        watch = Watch(registry, feed.credentials)
        context = Context(name, reports, feed, door, registry, settings.heartbeat_interval.total_seconds())

        originals = OriginalCrawlers()

        async def token_of(connection_id: str, crawler_job_id: str) -> str | None:
            orders = await feed.live_orders(ConnectionId(connection_id))
            return next((o.access_token for o in orders if o.crawler_job_id == crawler_job_id), None)

        def connect(transport: Transport) -> Receiver:
            link = Link(transport, context)
            watch.add(link)
            return link

        def accept(transport: Transport) -> Receiver:
            if transport.peer.listener.dialect == "original":
                return Translator(transport, originals, token_of, connect)
            return connect(transport)

        listeners = Listeners(read_addresses(settings.gateway_listen), accept)
        return cls(name, registry, feed, reports, broker, door, watch, listeners)

    async def serve(self, stopped: asyncio.Event, on_started: Callable[[], Awaitable[None]]) -> None:
        """Hold links until *stopped*; then let them go."""
        running = [asyncio.create_task(part.run()) for part in (self.feed, self.reports, self.watch)]
        ended = asyncio.create_task(stopped.wait())
        try:
            await self.listeners.start()
            await on_started()
            await asyncio.wait([ended, *running], return_when=asyncio.FIRST_COMPLETED)
            for part in running:
                if part.done():
                    part.result()  # it is not to end: its error ends the process
            await self.drain()
        finally:
            for task in (ended, *running):
                task.cancel()
            await asyncio.gather(ended, *running, return_exceptions=True)
            await self.broker.close()

    async def drain(self) -> None:
        """Let the crawlers go: they come back, here or elsewhere, under the same sessions."""
        self.registry.is_draining = True
        await self.listeners.stop_accepting()
        links = self.watch.links
        log.info("draining", links=len(links))
        spread = min(SPREAD_S, len(links) / _LINKS_A_SECOND)
        for place, link in enumerate(links):
            link.shut_down(FLUSH_S, round(spread * place / len(links), 3))
        if not await self.reports.flush(FLUSH_S):
            log.warning("reports_unhandled", links=len(links))
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.listeners.close()
        await self.reports.flush(FLUSH_S)
        log.info("drained")

    def reload(self) -> None:
        """Read certificates and credentials anew."""
        self.listeners.reload()
        self.door.forget()


def run() -> None:
    """Run a gateway until SIGTERM or SIGINT. Raises SettingsError."""
    _forbid_core_files()
    gateway_settings = settings()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(gateway_settings))


async def _run(of: Settings) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    gateway = Gateway.of(of)
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGHUP, gateway.reload)

    async def started() -> None:
        log.info("gateway_started", name=gateway.name, pid=os.getpid())

    begun = time.monotonic()
    await gateway.serve(stopped, started)
    log.info("gateway_stopped", seconds=round(time.monotonic() - begun))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return uvloop's loop where it is installed: links cost less memory, those with TLS a tenth."""
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415 - an extra

        return uvloop.new_event_loop
    return asyncio.new_event_loop


def _forbid_core_files() -> None:
    """Let no core file be written, and no other process of this user read our memory: it holds tokens for a moment."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
