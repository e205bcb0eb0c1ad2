"""Listeners with real sockets in this process's loop, and links that only note what happens to them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.listeners.addresses import ListenAddress, read_addresses
from gateway.listeners.bounds import Limits
from gateway.listeners.listeners import Listeners
from gateway.listeners.transport import HELLO_BYTES, Transport

FRAME_BYTES = 1024**2

LIMITS = Limits(
    links=1000,
    links_per_peer=900,
    strangers=900,
    accept_rate=100_000,
    frame_rate=1_000_000,
    byte_rate=1024**3,
    held=64 * 1024**2,
)
"""So wide that only those bounds are met that a test makes narrower."""


LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop]
"""The first makes the loops of tests; a fixture may put another one before it."""


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, which the loop itself brings about."""
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - what brings it about knows nothing of tests
            await asyncio.sleep(0.002)


def set_servers(environment: pytest.MonkeyPatch) -> None:
    """Name servers that nobody asks, without which there are no settings."""
    environment.setenv("DATABASE_URL", "postgresql://nowhere.invalid/none")
    environment.setenv("BROKER_URL", "redis://nowhere.invalid/0")


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test in a loop of its own, for at most half a minute."""
    with asyncio.Runner(loop_factory=LOOPS[0]) as runner:
        runner.run(asyncio.wait_for(test, 30))


@dataclass(eq=False)
class Link:
    """A link that answers the first frame with a welcome, and notes the others."""

    transport: Transport
    known: bool = True
    frame_limit: int = HELLO_BYTES
    frames: list[bytes] = field(default_factory=list)
    pongs: int = 0
    errors: list[str] = field(default_factory=list)
    ended: list[Exception | None] = field(default_factory=list)
    on_frame: Callable[[bytes], None] | None = None

    def frame_received(self, frame: bytes) -> None:
        """Note a frame; the first makes its crawler known, if the test wants it."""
        self.frames.append(frame)
        if self.known and len(self.frames) == 1:
            self.transport.authenticated()
            self.frame_limit = FRAME_BYTES
            self.transport.send(b'{"type":"welcome"}')
        if self.on_frame is not None:
            self.on_frame(frame)

    def ponged(self) -> None:
        """Count an answer to a ping."""
        self.pongs += 1

    def broken(self, code: str, message: str) -> None:
        """Tell the peer and close."""
        self.errors.append(code)
        self.transport.send(f'{{"type":"error","data":{{"code":"{code}"}}}}'.encode())
        self.transport.close()

    def closed(self, error: Exception | None) -> None:
        """Note the end."""
        self.ended.append(error)


@dataclass
class Listening:
    """Listeners and the links that they have made."""

    listeners: Listeners
    links: list[Link]
    crawlers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def address(self) -> ListenAddress:
        """The first address."""
        return self.listeners.addresses[0]

    async def connect(self, **more: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first address, without a word."""
        if self.address.scheme == "unix":
            reader, writer = await asyncio.open_unix_connection(self.address.path)
        else:
            reader, writer = await asyncio.open_connection(self.address.host, self.address.port, **more)
        self.crawlers.append(writer)
        return reader, writer

    async def greet(self, **more: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, and read the welcome."""
        reader, writer = await self.connect(**more)
        writer.write(b'{"type":"hello"}\n')
        assert await reader.readline() == b'{"type":"welcome"}\n'
        return reader, writer


@asynccontextmanager
async def listening(
    address: str = "tcp://127.0.0.1:0", *, limits: Limits = LIMITS, known: bool = True
) -> AsyncIterator[Listening]:
    """Listen while the test runs."""
    links: list[Link] = []

    def accept(transport: Transport) -> Link:
        links.append(Link(transport, known))
        return links[-1]

    listeners = Listeners(read_addresses(address), accept, limits, Counter())
    await listeners.start()
    gateway = Listening(listeners, links)
    try:
        yield gateway
    finally:
        for crawler in gateway.crawlers:
            if not crawler.is_closing():
                crawler.transport.abort()
            with suppress(OSError):
                await crawler.wait_closed()
        await listeners.close()
        assert listeners.links == 0
        assert listeners.held_bytes == 0
