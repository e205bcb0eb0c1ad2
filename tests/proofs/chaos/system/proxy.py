"""
A network that can be broken: TCP proxies on loopback, one for each link, all in one loop of one thread.

A link passes data normally, or it is cut (open connections are reset, new ones refused), slow, stalled (data
is delivered once the link is normal again), or deaf (data is accepted and discarded, and neither end notices
until the link is normal again: then these connections are reset), in both directions or in one.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 seconds: a close sends a reset."""


class LinkState(Enum):
    """What happens to data."""

    NORMAL = auto()
    CUT = auto()
    SLOW = auto()
    STALLED = auto()
    DEAF = auto()
    DEAF_TO_TARGET = auto()
    """Only what is sent to the target is discarded."""
    DEAF_TO_CALLER = auto()
    """Only what the target sends is discarded."""


_NOWHERE: frozenset[str] = frozenset()
_BOTH = frozenset({"near", "far"})
_DEAF = {
    LinkState.DEAF: _BOTH,
    LinkState.DEAF_TO_TARGET: frozenset({"far"}),
    LinkState.DEAF_TO_CALLER: frozenset({"near"}),
}


@dataclass(eq=False)
class _ProxiedConnection:
    """One connection over a link: both of its ends, and the tasks that copy data between them."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None
    deaf: frozenset[str] = _NOWHERE
    """The ends that get nothing."""
    pumps: list["asyncio.Task[None]"] = field(default_factory=list)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        """End it so that both ends notice."""
        self.is_over.set()
        for pump in self.pumps:
            pump.cancel()
        for end in (self.near, self.far):
            if end is not None:
                with suppress(OSError):
                    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.transport.abort()


class Link:
    """One proxy; it keeps its port while it is cut."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: int) -> None:
        self.state = LinkState.NORMAL
        self._loop = loop
        self._target = target
        self._connections: set[_ProxiedConnection] = set()
        self._passes = asyncio.Event()
        self._delay, self._bytes_a_second = 0.0, float("inf")
        # Bound without listening: connections are refused, and no other process gets the port.
        self._reservation = _bound(0)
        self.port: int = self._reservation.getsockname()[1]
        self._listener: asyncio.Server | None = None
        self._run(self._listen())

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def set_state(
        self, state: LinkState, *, delay: float = 0.0, bytes_a_second: float = float("inf")
    ) -> None:
        """Change the state; *delay* (of each chunk, in each direction) and *bytes_a_second* apply to SLOW."""
        self._run(self._set_state(state, delay, bytes_a_second))

    def close(self) -> None:
        """Close the link."""
        self._run(self._set_state(LinkState.CUT, 0.0, 0.0))
        self._reservation.close()

    def _run(self, what: Awaitable[T]) -> T:
        async def do() -> T:
            return await what

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(10)

    async def _set_state(self, state: LinkState, delay: float, bytes_a_second: float) -> None:
        self.state, self._delay, self._bytes_a_second = state, delay, bytes_a_second
        deaf = _DEAF.get(state, _NOWHERE)
        for connection in list(self._connections):
            if state is LinkState.CUT or connection.deaf - deaf:
                connection.reset()
            else:
                connection.deaf = deaf
        if state is LinkState.CUT:
            await self._refuse()
        else:
            await self._listen()
        if state is LinkState.STALLED:
            self._passes.clear()
        else:
            self._passes.set()

    async def _listen(self) -> None:
        if self._listener is None:
            self._passes.set()
            self._listener = await asyncio.start_server(self._answer, sock=_bound(self.port))

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            await asyncio.sleep(0)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy data until either end closes, or the link is cut."""
        connection = _ProxiedConnection(writer, deaf=_DEAF.get(self.state, _NOWHERE))
        self._connections.add(connection)
        try:
            await self._carry(connection, reader)
        except OSError:
            pass  # the far end does not listen
        finally:
            connection.reset()
            self._connections.discard(connection)

    async def _carry(self, connection: _ProxiedConnection, reader: asyncio.StreamReader) -> None:
        if connection.deaf == _BOTH:
            connection.pumps = [asyncio.create_task(self._pump(connection, reader, "far"))]
        else:
            answers, connection.far = await asyncio.open_connection("127.0.0.1", self._target)
            if connection.is_over.is_set():
                return
            connection.pumps = [
                asyncio.create_task(self._pump(connection, reader, "far")),
                asyncio.create_task(self._pump(connection, answers, "near")),
            ]
        await asyncio.wait(connection.pumps, return_when=asyncio.FIRST_COMPLETED)
        if connection.deaf:  # the far end must not notice yet that the near one has closed
            await connection.is_over.wait()

    async def _pump(self, connection: _ProxiedConnection, source: asyncio.StreamReader, end: str) -> None:
        sink = connection.far if end == "far" else connection.near
        with suppress(OSError):
            while piece := await source.read(_CHUNK):
                await self._passes.wait()
                if end in connection.deaf or sink is None:
                    continue
                if self.state is LinkState.SLOW:
                    await asyncio.sleep(self._delay + len(piece) / self._bytes_a_second)
                sink.write(piece)
                await sink.drain()


class Network:
    """All links, from `__enter__` to `__exit__`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._links: list[Link] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for link in self._links:
            link.close()
        asyncio.run_coroutine_threadsafe(_let_all_end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def link(self, target: int) -> Link:
        """Return a new link to a port of this machine."""
        link = Link(self._loop, target)
        self._links.append(link)
        return link


async def _let_all_end() -> None:
    """Wait for the tasks of connections that were reset."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound
