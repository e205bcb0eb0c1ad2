"""
The gateway's process.

It ends within 25 s of SIGTERM, and by then every report that it took is handled, or is the crawlers' to say again. It
never says that a link is lost because it ends itself.
"""

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from socket import gethostname
from typing import Final

import redis.asyncio
import structlog

from gateway.metrics import metrics
from gateway.metrics_server import MetricsServer, read_place
from gateway.parts import Gateway
from gateway.sign_of_life import Sign, SignsOfLife, keep_liveness_file
from persistence.settings import Settings, settings
from persistence.version import version
from tasks.start.broker_client import client_url

log = structlog.get_logger()

_SIGN_TIMEOUT_S: Final = 5.0
_PR_SET_DUMPABLE: Final = 4


def run() -> None:
    """Run a gateway until SIGTERM or SIGINT. Raises SettingsError."""
    _forbid_core_files()
    own = settings()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(own))


async def _run(own: Settings) -> None:
    gateway = Gateway.of(own)
    stopped = _on_signals(gateway)
    _show(gateway)
    running = [
        asyncio.create_task(part)
        for part in (gateway.feed.run(), gateway.reports.run(), gateway.watch.run(), keep_liveness_file())
    ]
    try:
        async with _figures_served(own, gateway), _signs_given(own, gateway) as sign:
            await gateway.listeners.start()
            await sign.give()
            log.info("gateway_started", name=gateway.name, pid=os.getpid())
            await _first_of(stopped, *running[:-1])
            await gateway.drain()
    finally:
        for part in running:
            part.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await gateway.broker.close()
    log.info("gateway_stopped")


async def _first_of(stopped: asyncio.Event, *running: "asyncio.Task[None]") -> None:
    """Wait until the gateway is to stop. A part does not end before: if one does, its error is raised."""
    ended = asyncio.create_task(stopped.wait())
    await asyncio.wait([ended, *running], return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    for part in running:
        if part.done():
            part.result()


def _on_signals(gateway: Gateway) -> asyncio.Event:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGHUP, gateway.reload)
    return stopped


def _show(gateway: Gateway) -> None:
    """Show the gateway's figures."""
    metrics.gauge("links", "Links whose crawlers are welcome.", lambda: gateway.open_links)
    metrics.gauge("sockets", "Open sockets.", lambda: gateway.listeners.links)
    metrics.gauge("held_bytes", "Bytes of input and output in hand.", lambda: gateway.listeners.held_bytes)
    metrics.gauge(
        "last_poll_age_seconds", "Seconds since Postgres was last read for orders.", lambda: gateway.feed.age
    )
    metrics.gauge(
        "unhandled_bytes", "Bytes of reports that are not handled yet.", lambda: gateway.reports.held_bytes
    )


@asynccontextmanager
async def _figures_served(own: Settings, gateway: Gateway) -> AsyncIterator[None]:
    if not own.gateway_metrics:
        yield
        return
    server = MetricsServer(metrics, lambda: gateway.state)
    async with server.listen(*read_place(own.gateway_metrics)):
        yield


@asynccontextmanager
async def _signs_given(own: Settings, gateway: Gateway) -> AsyncIterator[SignsOfLife]:
    """Give signs of life on the broker until the end."""
    started_at = time.time()

    def sign() -> Sign:
        return Sign(
            gateway.name,
            gethostname(),
            os.getpid(),
            version(),
            started_at,
            gateway.state,
            gateway.open_links,
            [str(address) for address in gateway.listeners.addresses],
            metrics.figures(),
        )

    client = redis.asyncio.Redis.from_url(
        client_url(own.broker_url), socket_timeout=_SIGN_TIMEOUT_S, socket_connect_timeout=_SIGN_TIMEOUT_S
    )
    signs = SignsOfLife(client, own.queue_prefix, sign)
    giving = asyncio.create_task(signs.run())
    try:
        yield signs
    finally:
        giving.cancel()
        await asyncio.gather(giving, return_exceptions=True)
        await signs.take_back()
        await client.aclose()


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
