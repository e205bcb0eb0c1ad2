"""
A crowd of crawlers in a process of its own, so that its work is not the gateway's.

    python crowd.py ADDRESS NUMBER

Connects as many times at once, says hello on each link, and connects again where a link is refused. It prints a line
when all have their welcome, and holds the links until its standard input ends.
"""

import asyncio
import resource
import sys

HELLO = b'{"type":"hello"}\n'
WELCOME = b'{"type":"welcome"}\n'


async def crawler(address: str) -> asyncio.StreamWriter:
    """Connect until a link is welcome."""
    while True:
        try:
            if address.startswith("/"):
                reader, writer = await asyncio.open_unix_connection(address)
            else:
                reader, writer = await asyncio.open_connection(*address.rsplit(":", 1))
            writer.write(HELLO)
            if await reader.readline() == WELCOME:
                return writer
            writer.close()
        except OSError:
            pass  # the backlog is full, or the link was refused
        await asyncio.sleep(0.1)


async def crowd(address: str, number: int) -> None:
    """Hold so many links."""
    writers = await asyncio.gather(*(crawler(address) for _ in range(number)))
    sys.stdout.write("welcome\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for writer in writers:
        writer.transport.abort()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(crowd(sys.argv[1], int(sys.argv[2])))
