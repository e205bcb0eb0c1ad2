"""Links over WebSocket, with the clients of others and with bytes that no client would send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedOK
from websockets.frames import Frame, Opcode

from persistence.settings import settings
from support.gateway.authority import Authority
from support.gateway.listening import FRAME_BYTES, LIMITS, Listening, listening, run, set_servers, until

WS = "ws://127.0.0.1:0"

UPGRADE = (
    b"GET /any/path HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@asynccontextmanager
async def crawler(gateway: Listening, **more: object) -> AsyncIterator[ClientConnection]:
    """A crawler that has read its welcome."""
    url = f"{gateway.address.scheme}://127.0.0.1:{gateway.address.port}/crawlers"
    async with connect(url, proxy=None, max_size=None, **more) as client:  # type: ignore[arg-type]
        await client.send('{"type":"hello"}')
        assert await client.recv() == '{"type":"welcome"}'
        yield client


async def raw(gateway: Listening) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A link after the handshake, over which a test sends what it likes."""
    reader, writer = await gateway.connect()
    writer.write(UPGRADE)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return reader, writer


def message(data: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    """A frame of a client."""
    return Frame(opcode, data, fin).serialize(mask=True)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_message_is_a_frame(compression: str | None) -> None:
    """In both directions, whether or not the crawler would compress; text or not is all the same."""

    async def test() -> None:
        async with listening(WS) as gateway, crawler(gateway, compression=compression) as client:
            [link] = gateway.links
            assert client.protocol.extensions == []
            await client.send('{"a":"ü\n"}')
            await client.send(b'{"b":1}')
            await client.send(["{", '"c":', "1}"])
            await client.send("")
            await client.send("x" * FRAME_BYTES)
            await until(lambda: len(link.frames) == 5)
            assert link.frames[1:4] == ['{"a":"ü\n"}'.encode(), b'{"b":1}', b'{"c":1}']
            link.transport.send(b'{"d":"' + b"y" * 100_000 + b'"}')
            assert await client.recv() == '{"d":"' + "y" * 100_000 + '"}'

    run(test())


def test_links_over_encrypted_web_sockets(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wss:// is the same behind TLS."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    set_servers(monkeypatch)
    for name, path in zip(("CERTIFICATE", "KEY"), authority.issue(), strict=True):
        monkeypatch.setenv(f"CRAWLYARD_GATEWAY_{name}", str(path))
    settings.cache_clear()

    async def test() -> None:
        async with (
            listening("wss://127.0.0.1:0") as gateway,
            crawler(gateway, ssl=authority.trusting()) as client,
        ):
            await client.send("{}")
            await until(lambda: len(gateway.links[0].frames) == 2)

    run(test())
    settings.cache_clear()


def test_both_sides_ping() -> None:
    """A client's pings are answered, and its answer to ours is told to the link."""

    async def test() -> None:
        async with listening(WS) as gateway, crawler(gateway) as client:
            [link] = gateway.links
            await (await client.ping())
            assert link.transport.ping()
            await until(lambda: link.pongs == 1)

    run(test())


def test_a_crawler_that_closes_is_answered() -> None:
    """The close is clean, and the link sees the peer's end."""

    async def test() -> None:
        async with listening(WS) as gateway:
            async with crawler(gateway) as client:
                pass
            assert client.close_code == 1000
            [link] = gateway.links
            await until(lambda: link.ended)
            assert (link.ended, link.errors) == ([None], [])

    run(test())


def test_a_link_that_closes_says_all_before() -> None:
    """The crawler reads what was sent, then a clean close."""

    async def test() -> None:
        async with listening(WS) as gateway, crawler(gateway) as client:
            [link] = gateway.links
            link.transport.send(b'{"last":1}')
            link.transport.close()
            assert await client.recv() == '{"last":1}'
            with pytest.raises(ConnectionClosedOK):
                await client.recv()

    run(test())


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b'{"type":"hello"}\n', b""),
        (b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n", b"HTTP/1.1 426 "),
        (b"POST / HTTP/1.1\r\nHost: gateway\r\n\r\n", b"HTTP/1.1 405 "),
        (UPGRADE.replace(b"Version: 13", b"Version: 7"), b"HTTP/1.1 400 "),
        (b"GET /" + b"x" * 20_000, b""),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 3000, b"HTTP/1.1 431 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", b""),
    ],
)
def test_what_is_no_handshake_is_refused(request_: bytes, answer: bytes) -> None:
    """It gets the answer of HTTP where it was HTTP, and the link no frame."""

    async def test() -> None:
        async with listening(WS) as gateway:
            reader, writer = await gateway.connect()
            writer.write(request_)
            assert (await reader.read()).startswith(answer)
            writer.transport.abort()
            [link] = gateway.links
            await until(lambda: link.ended)
            assert link.frames == []
            assert len(link.errors) == 1

    run(test())


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b'{"unmasked":1}', "malformed"),
        (message(b"{}", Opcode.CONT), "malformed"),
        (b"\x83\x80\x00\x00\x00\x00", "malformed"),
        (b"\xc1\x80\x00\x00\x00\x00", "malformed"),
        (message(b"x" * (FRAME_BYTES + 1)), "frame_too_large"),
        (
            message(b"x" * (FRAME_BYTES // 2), fin=False) + message(b"x" * FRAME_BYTES, Opcode.CONT),
            "frame_too_large",
        ),
        (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", "malformed"),
    ],
    ids=["not_masked", "a_rest_without_a_beginning", "an_unknown_kind", "an_extension", "too_large",
         "too_large_in_parts", "too_large_announced"],
)  # fmt: skip
def test_hostile_messages_end_the_link(sent: bytes, code: str) -> None:
    """What breaks the protocol, or is too large, whole, in parts or only announced."""

    async def test() -> None:
        async with listening(WS) as gateway:
            reader, writer = await raw(gateway)
            writer.write(message(b"{}"))
            [link] = gateway.links
            await until(lambda: link.frames == [b"{}"])
            writer.write(sent)
            await reader.read()
            writer.transport.abort()
            await until(lambda: link.ended)
            assert (link.errors, len(link.frames)) == ([code], 1)
            assert gateway.listeners.counters == {code: 1}

    run(test())


def test_a_large_first_message_is_refused_before_it_is_held() -> None:
    """A stranger gets 4 KiB, however large its message says it is."""

    async def test() -> None:
        async with listening(WS) as gateway:
            reader, writer = await raw(gateway)
            writer.write(message(b"x" * 100_000)[:20_000])
            answer = await reader.read()
            assert b"frame_too_large" in answer
            assert gateway.links[0].errors == ["frame_too_large"]

    run(test())


def test_empty_parts_and_pings_cost_as_much_as_frames() -> None:
    """A flood of them is read no faster than frames are, and others are served meanwhile."""

    async def test() -> None:
        limits = replace(LIMITS, frame_rate=1000, burst=0.1)
        async with listening(WS, limits=limits) as gateway, crawler(gateway) as other:
            _, writer = await raw(gateway)
            writer.write(message(b"{}"))
            await until(lambda: len(gateway.links) == 2 and gateway.links[1].frames)
            writer.write(
                message(b"", fin=False)
                + message(b"", Opcode.CONT, fin=False) * 300
                + message(b"", Opcode.PING) * 300
            )
            await until(lambda: gateway.listeners.counters["rate"] > 0)
            await other.send("{}")
            await until(lambda: len(gateway.links[0].frames) == 2)

    run(test())
