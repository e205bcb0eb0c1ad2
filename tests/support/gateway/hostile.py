"""
A hostile peer in a process of its own, until its standard input ends.

    python hostile.py KIND PATH

Each kind is one function below; PATH is the Unix socket of a gateway that trusts its peers, so that each may be a
welcome crawler first.
"""

import asyncio
import itertools
import json
import sys
from collections.abc import Awaitable, Callable

Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_NUMBERS = itertools.count()
FRAME = b'{"type":"heartbeat","timestamp":"2026-11-29T09:00:00Z","data":{"activeJobs":[]}}\n'
BRACKETS = b'{"type":"x","data":{"a":' + b"[" * 1_000_000 + b"\n"
PAIRS = b'{"type":"x","data":{"a":[' + b"[]," * 330_000 + b"0]}}\n"
PING = b'{"type":"ping","timestamp":"2026-11-29T09:00:00Z","data":{"nonce":"' + b"x" * 64 + b'"}}\n'


async def known(path: str) -> Link:
    """Connect as a crawler, and read the welcome."""
    reader, writer = await asyncio.open_unix_connection(path)
    hello = {"protocol": 1, "crawlerId": f"hostile-{next(_NUMBERS)}", "n": 1}
    frame = {"type": "hello", "timestamp": "2026-11-29T09:00:00Z", "data": hello}
    writer.write(json.dumps(frame).encode() + b"\n")
    await reader.readuntil(b"\n")
    return reader, writer


async def half_frames(path: str) -> None:
    """Begin a frame of a megabyte on each link, and finish none."""
    _, writer = await known(path)
    writer.write(b"x" * 1_000_000)
    await asyncio.sleep(1)
    writer.transport.abort()


async def slow_loris(path: str) -> None:
    """Send a byte now and then, and never a whole frame."""
    _, writer = await asyncio.open_unix_connection(path)
    for _ in range(100):
        writer.write(b"x")
        await asyncio.sleep(0.05)


async def brackets(path: str) -> None:
    """Send frames that cost a parser the most."""
    reader, writer = await known(path)
    for frame in (BRACKETS, PAIRS):
        writer.write(frame)
        await writer.drain()
    await asyncio.wait_for(reader.readuntil(b'"error"'), 5)
    writer.transport.abort()


async def never_stops(path: str) -> None:
    """Send frames without end."""
    reader, writer = await known(path)
    reading = asyncio.ensure_future(reader.read())
    while not reading.done():
        writer.write(FRAME * 1000)
        await writer.drain()


async def never_reads(path: str) -> None:
    """Ask for answers without end, and read none."""
    _, writer = await known(path)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    while True:
        writer.write(PING * 1000)
        await writer.drain()


async def connects(path: str) -> None:
    """Connect and say nothing."""
    _, writer = await asyncio.open_unix_connection(path)
    await asyncio.sleep(0.2)
    writer.transport.abort()


KINDS: dict[str, tuple[Callable[[str], Awaitable[None]], int]] = {
    "half_frames": (half_frames, 30),
    "slow_loris": (slow_loris, 100),
    "brackets": (brackets, 4),
    "never_stops": (never_stops, 4),
    "never_reads": (never_reads, 4),
    "connects": (connects, 200),
}
"""Each with how many links do it at once."""


async def attack(kind: str, path: str) -> None:
    """Do it again and again."""
    attacker, number = KINDS[kind]

    async def again() -> None:
        while True:
            try:
                await attacker(path)
            except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await asyncio.sleep(0.05)

    attackers = [asyncio.ensure_future(again()) for _ in range(number)]
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for one in attackers:
        one.cancel()


if __name__ == "__main__":
    asyncio.run(attack(sys.argv[1], sys.argv[2]))
