"""The parts of a gateway: how they are joined, started and ended."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from socket import gethostname
from typing import Final, Self

import structlog

from gateway.links.context import Context
from gateway.links.hello import Door
from gateway.links.link import Link
from gateway.links.registry import Registry
from gateway.links.watch import Watch
from gateway.listeners.addresses import read_addresses
from gateway.listeners.listeners import Listeners
from gateway.listeners.transport import Receiver, Transport
from gateway.metrics import metrics
from gateway.orders.feed import Feed
from gateway.original.crawlers import OriginalCrawlers
from gateway.original.translator import Translator
from gateway.reports.broker import RedisBroker
from gateway.reports.reports import Reports
from persistence.schema.ids import ConnectionId
from persistence.settings import Settings

log = structlog.get_logger()

FLUSH_S: Final = 5.0
CLOSE_S: Final = 6.0
READ_ON_S: Final = 0.5
"""For how long links are read on after they are told: what was under way is still taken."""
SPREAD_S: Final = 10.0
"""Over how long the crawlers of a full gateway come back to another one."""
_LINKS_A_SECOND: Final = 500


@dataclass
class Gateway:
    """One gateway, in one event loop."""

    name: str
    registry: Registry
    feed: Feed
    reports: Reports
    broker: RedisBroker
    door: Door
    watch: Watch
    listeners: Listeners

    @classmethod
    def of(cls, settings: Settings) -> Self:
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
        watch = Watch(registry, door, feed.credentials)
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
            metrics.count("links_accepted")
            if transport.peer.listener.dialect == "original":
                return Translator(transport, originals, token_of, connect)
            return connect(transport)

        listeners = Listeners(read_addresses(settings.gateway_listen), accept)
        return cls(name, registry, feed, reports, broker, door, watch, listeners)

    @property
    def state(self) -> str:
        """`serving`, `waiting` while Postgres or the broker is away, or `draining`."""
        if self.registry.is_draining:
            return "draining"
        return "serving" if self.feed.is_current and self.reports.is_broker_there else "waiting"

    @property
    def open_links(self) -> int:
        """Links whose crawlers are welcome."""
        return sum(link.is_open for link in self.registry)

    async def drain(self) -> None:
        """
        Let the crawlers go: they come back, here or elsewhere, under the same sessions.

        What they have reported is handled first, as far as that takes no longer than FLUSH_S.
        """
        self.registry.is_draining = True
        await self.listeners.stop_accepting()
        links = self.watch.links
        log.info("draining", links=len(links))
        spread = min(SPREAD_S, len(links) / _LINKS_A_SECOND)
        for place, link in enumerate(links):
            link.shut_down(FLUSH_S, round(spread * place / len(links), 3))
        if links:
            await asyncio.sleep(READ_ON_S)
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
