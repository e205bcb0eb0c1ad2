"""Frames in and out over Unix and TCP sockets, and the ends of links."""

import asyncio
import gc
import os
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gateway.listeners.stream import Stream
from support.gateway.listening import LIMITS, Listening, listening, run, until

STREAMS = ["tcp", "unix"]


def address_of(scheme: str, folder: Path) -> str:
    """An address of this kind for a test."""
    return f"unix:{folder}/gateway.sock" if scheme == "unix" else "tcp://127.0.0.1:0"


async def ended(writer: asyncio.StreamWriter) -> None:
    """Close a crawler's socket."""
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("scheme", STREAMS)
def test_frames_go_in_and_out(scheme: str, tmp_path: Path) -> None:
    """Each line is a frame, whether it comes alone, in parts or with others; empty ones are not given."""

    async def test() -> None:
        async with listening(address_of(scheme, tmp_path)) as gateway:
            reader, writer = await gateway.greet()
            writer.write(b'{"a":1}\n\n{"b":2}\r\n{"c"')
            [link] = gateway.links
            await until(lambda: len(link.frames) == 3)
            writer.write(b":3}\n")
            await until(lambda: len(link.frames) == 4)
            assert link.frames[1:] == [b'{"a":1}', b'{"b":2}\r', b'{"c":3}']
            link.transport.send(b'{"d":4}')
            assert await reader.readline() == b'{"d":4}\n'
            await ended(writer)
            await until(lambda: link.ended)
            assert link.ended == [None]
            assert link.errors == []

    run(test())


def test_a_peer_of_a_unix_socket_is_known_by_its_process(tmp_path: Path) -> None:
    """The system says who has connected."""

    async def test() -> None:
        async with listening(address_of("unix", tmp_path)) as gateway:
            _, writer = await gateway.greet()
            peer = gateway.links[0].transport.peer
            assert (peer.uid, peer.pid) == (os.getuid(), os.getpid())
            assert peer.source == f"uid {os.getuid()}"
            await ended(writer)

    run(test())


def test_a_peer_of_a_tcp_socket_is_known_by_its_address() -> None:
    """Its uid is not known; it is counted by its host alone."""

    async def test() -> None:
        async with listening() as gateway:
            _, writer = await gateway.greet()
            peer = gateway.links[0].transport.peer
            host, port = writer.get_extra_info("sockname")
            assert (peer.uid, peer.pid, peer.address, peer.source) == (None, None, f"{host}:{port}", host)
            await ended(writer)

    run(test())


@pytest.mark.parametrize("scheme", STREAMS)
def test_closing_delivers_what_was_sent(scheme: str, tmp_path: Path) -> None:
    """Also to a peer that has sent more than anybody has read, which would otherwise be reset."""

    async def test() -> None:
        async with listening(address_of(scheme, tmp_path)) as gateway:
            reader, writer = await gateway.greet()
            [link] = gateway.links
            link.on_frame = lambda frame: farewell(gateway)
            writer.write(b"{}\n" + b'{"more":1}\n' * 100_000)
            assert await reader.read() == b'{"last":1}\n' * 1000
            assert len(link.frames) == 2
            await ended(writer)
            await until(lambda: link.ended)

    def farewell(gateway: Listening) -> None:
        for _ in range(1000):
            gateway.links[0].transport.send(b'{"last":1}')
        gateway.links[0].transport.close()

    run(test())


def test_a_paused_link_gets_no_frame_and_then_all() -> None:
    """Also those that had arrived with the one at which it paused."""

    async def test() -> None:
        async with listening() as gateway:
            _, writer = await gateway.greet()
            [link] = gateway.links
            link.on_frame = lambda frame: link.transport.pause_reading()
            writer.write(b'{"n":1}\n{"n":2}\n{"n":3}\n')
            await until(lambda: len(link.frames) == 2)
            for n in (3, 4):
                await asyncio.sleep(0)
                assert len(link.frames) == n - 1
                link.transport.resume_reading()
                await until(lambda n=n: len(link.frames) == n)
            writer.write(b'{"n":4}\n')
            link.transport.resume_reading()
            await until(lambda: len(link.frames) == 5)
            assert link.frames[1:] == [b'{"n":%d}' % n for n in range(1, 5)]
            await ended(writer)

    run(test())


@pytest.mark.parametrize("seed", range(4))
def test_no_frame_is_lost_or_given_while_paused(seed: int) -> None:
    """However reads, pauses, bursts beyond the rate and long turns fall together, frames come in order and once."""
    rng = random.Random(seed)
    number = 3000
    sent = [b"%d:" % n + b"x" * rng.choice((0, 3, 70, 5000)) for n in range(number)]

    async def test() -> None:
        limits = replace(LIMITS, frame_rate=20_000, burst=0.02)
        async with listening(limits=limits) as gateway:
            _, writer = await gateway.greet()
            [link] = gateway.links
            paused, loop = False, asyncio.get_running_loop()

            def resume() -> None:
                nonlocal paused
                paused = False
                link.transport.resume_reading()

            def take(_frame: bytes) -> None:
                nonlocal paused
                assert not paused
                if rng.random() < 0.02:
                    paused = True
                    link.transport.pause_reading()
                    if rng.random() < 0.5:
                        link.transport.resume_reading()
                        link.transport.pause_reading()
                    rng.choice((loop.call_soon, partial(loop.call_later, 0.003)))(resume)

            link.on_frame = take
            stream, at = b"".join(frame + b"\n" for frame in sent), 0
            while at < len(stream):
                size = rng.choice((1, 10, 1000, 70_000))
                writer.write(stream[at : at + size])
                at += size
                await writer.drain()
            await until(lambda: len(link.frames) == number + 1 or link.errors)
            assert link.frames[1:] == sent
            assert link.errors == []

    run(test())


def test_a_link_that_fails_ends_alone() -> None:
    """A fault of ours in one link closes it with an error, and does not touch another."""

    async def test() -> None:
        async with listening() as gateway:
            reader, writer = await gateway.greet()
            _, other = await gateway.greet()
            gateway.links[0].on_frame = lambda frame: 1 / 0
            writer.write(b"{}\n")
            assert b'"internal"' in await reader.read()
            other.write(b"{}\n")
            await until(lambda: len(gateway.links[1].frames) == 2)
            assert gateway.listeners.counters == {"internal": 1}
            await ended(writer)

    run(test())


def test_a_link_is_usable_after_its_end() -> None:
    """Whoever still holds a transport may call anything."""

    async def test() -> None:
        async with listening() as gateway:
            _, writer = await gateway.greet()
            [link] = gateway.links
            await ended(writer)
            await until(lambda: link.ended)
            transport = link.transport
            transport.send(b"{}")
            transport.pause_reading()
            transport.resume_reading()
            transport.authenticated()
            assert not transport.ping()
            transport.close()
            transport.abort()
            assert transport.unsent == 0
            await asyncio.sleep(0.01)
            assert link.ended == [None]

    run(test())


def test_nothing_is_left_of_links_that_have_ended() -> None:
    """Whoever ended them, and how: no socket, no account and no timer keeps one."""

    async def test() -> None:
        async with listening(limits=replace(LIMITS, half_frame=0.05, close=0.05)) as gateway:
            for n in range(40):
                _, writer = await gateway.greet()
                link = gateway.links.pop()
                match n % 4:
                    case 0:
                        writer.transport.abort()
                    case 1:
                        link.transport.close()
                    case 2:
                        writer.write(b"half a frame")
                    case 3:
                        link.transport.abort()
                await until(lambda link=link: link.ended)
                del link
            gateway.crawlers[:] = [one for one in gateway.crawlers if not one.is_closing()]
            await asyncio.sleep(0.1)  # for the timers that have nothing to do any more
            gc.collect()
            assert [one for one in gc.get_objects() if type(one) is Stream] == []
            assert gateway.listeners.strangers == gateway.listeners.links == 0

    run(test())
