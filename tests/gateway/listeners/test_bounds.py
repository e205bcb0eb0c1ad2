"""What one link, one peer and all strangers together may cost, however hostile they are; others are served."""

import asyncio
import errno
import resource
import socket
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.listeners.bounds import Admission, HeldBytes, Limits, Pace, raise_descriptor_limit
from gateway.listeners.transport import HELLO_BYTES
from persistence.exceptions import SettingsError
from persistence.settings import Settings
from support.depth import deep
from support.gateway import crowd
from support.gateway.listening import FRAME_BYTES, LIMITS, Listening, listening, run, set_servers, until

CROWD = Path(crowd.__file__)


class Probe:
    """A link that notes why it was stopped."""

    def __init__(self) -> None:
        self.stops: list[str] = []

    def stop(self, code: str, message: str) -> None:
        """Note the reason."""
        self.stops.append(code)

    def close(self) -> None:
        """Nothing."""


async def served(gateway: Listening, crawler: asyncio.StreamWriter, n: int = 20) -> float:
    """Send frames over the first link one after the other, and return the longest time that one took."""
    [link, *_] = gateway.links
    worst = 0.0
    for _ in range(n):
        began, before = time.perf_counter(), len(link.frames)
        crawler.write(b"{}\n")
        await until(lambda before=before: len(link.frames) > before)
        worst = max(worst, time.perf_counter() - began)
    return worst


# Bytes of a frame.


@pytest.mark.parametrize("frame", [b"x" * (FRAME_BYTES + 1) + b"\n", b"[" * (2 * FRAME_BYTES)])
def test_a_frame_beyond_its_bound_ends_the_link(frame: bytes) -> None:
    """With an error that the crawler can read, though it has sent more than was read."""

    async def test() -> None:
        async with listening() as gateway:
            reader, writer = await gateway.greet()
            writer.write(frame)
            assert b"frame_too_large" in await reader.read()
            assert gateway.listeners.counters == {"frame_too_large": 1}
            assert gateway.listeners.held_bytes == 0

    run(test())


def test_a_stranger_has_four_kibibytes() -> None:
    """No more of it is held, or read at once, before its crawler is known."""

    async def test() -> None:
        async with listening(known=False) as gateway:
            reader, writer = await gateway.connect()
            writer.write(b"x" * HELLO_BYTES)
            await until(lambda: gateway.listeners.held_bytes == HELLO_BYTES)
            writer.write(b"x" * FRAME_BYTES)
            assert b"frame_too_large" in await reader.read()
            assert gateway.listeners.counters == {"frame_too_large": 1}

    run(test())


def test_what_comes_behind_a_first_frame_is_not_read() -> None:
    """While it is being found out who a crawler is, no more than 4 KiB of what it sends is held."""

    async def test() -> None:
        async with listening(known=False) as gateway:
            _, writer = await gateway.connect()
            await until(lambda: gateway.links)
            [link] = gateway.links
            link.on_frame = lambda frame: link.transport.pause_reading()
            writer.write(b'{"type":"hello"}\n' + b'{"more":1}\n' * 10_000)
            await until(lambda: link.frames)
            assert 0 < gateway.listeners.held_bytes < HELLO_BYTES

    run(test())


def test_a_half_frame_is_ended() -> None:
    """Also where another byte comes each time that one would think it is dead: a slow-loris."""

    async def test() -> None:
        async with listening(limits=replace(LIMITS, half_frame=0.3)) as gateway:
            reader, writer = await gateway.greet()

            async def drip() -> None:
                while True:
                    writer.write(b"x")
                    await asyncio.sleep(0.02)

            dripping = asyncio.create_task(drip())
            assert b"half_frame" in await reader.read()
            dripping.cancel()
            assert gateway.listeners.counters == {"half_frame": 1}

    run(test())


def test_a_deadline_is_that_of_its_frame() -> None:
    """A link that is always within some frame is not late, as long as each of them is whole in time."""

    async def test() -> None:
        async with listening(limits=replace(LIMITS, half_frame=0.5)) as gateway:
            _, writer = await gateway.greet()
            [link] = gateway.links
            writer.write(b"{")
            for n in range(2, 12):
                await asyncio.sleep(0.08)
                writer.write(b"}\n{")
                await until(lambda n=n: len(link.frames) == n)
            assert gateway.listeners.counters == {}
            await until(lambda: link.ended or link.errors)
            assert link.errors == ["half_frame"]

    run(test())


def test_a_link_that_we_do_not_read_is_not_late() -> None:
    """The rest of its frame waits for us."""

    async def test() -> None:
        async with listening(limits=replace(LIMITS, half_frame=0.1)) as gateway:
            _, writer = await gateway.greet()
            [link] = gateway.links
            link.on_frame = lambda frame: link.transport.pause_reading()
            writer.write(b"{}\n{")
            await until(lambda: len(link.frames) == 2)
            await asyncio.sleep(0.25)
            assert link.errors == []
            writer.write(b"}\n")
            link.transport.resume_reading()
            await until(lambda: len(link.frames) == 3)

    run(test())


def test_half_a_frame_that_we_stop_reading_is_not_late() -> None:
    """It was begun before somebody said to pause."""

    async def test() -> None:
        async with listening(limits=replace(LIMITS, half_frame=0.1)) as gateway:
            _, writer = await gateway.greet()
            [link] = gateway.links
            writer.write(b"{")
            await until(lambda: gateway.listeners.held_bytes == 1)
            link.transport.pause_reading()
            await asyncio.sleep(0.25)
            assert link.errors == []
            link.transport.resume_reading()
            await until(lambda: link.errors)
            assert link.errors == ["half_frame"]

    run(test())


# A writer that never stops, and a reader that never reads.


def test_a_writer_that_never_stops_is_slowed_down() -> None:
    """It gets the rate of frames that a link has, at the cost of nobody: another is served within its usual time."""

    async def test() -> None:
        async with listening(limits=replace(LIMITS, frame_rate=500, burst=0.2)) as gateway:
            _, other = await gateway.greet()
            _, flooding = await gateway.greet()
            flood = asyncio.create_task(write_on(flooding))
            began = time.perf_counter()
            await until(lambda: gateway.listeners.counters["rate"] >= 2)
            assert await served(gateway, other) < 1
            taken = len(gateway.links[1].frames)
            assert taken <= 500 * (time.perf_counter() - began + 0.2) + 5
            assert gateway.listeners.held_bytes < 70_000
            flood.cancel()

    async def write_on(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b'{"type":"job_progress"}\n' * 1000)
            await writer.drain()

    run(test())


def test_many_frames_in_one_read_do_not_keep_others_waiting() -> None:
    """Another link has its turn before all of them are given."""

    async def test() -> None:
        async with listening() as gateway:
            _, flooding = await gateway.greet()
            _, other = await gateway.greet()
            before: list[int] = []
            gateway.links[1].on_frame = lambda frame: before.append(len(gateway.links[0].frames))
            flooding.write(b"{}\n" * 20_000)
            other.write(b"{}\n")
            await until(lambda: before and len(gateway.links[0].frames) == 20_001)
            assert before[0] < 1000

    run(test())


def test_bytes_a_second_are_bounded_too() -> None:
    """Few large frames cost as much as many small ones; all of them arrive."""

    async def test() -> None:
        async with listening(limits=replace(LIMITS, byte_rate=1_000_000, burst=0.1)) as gateway:
            _, writer = await gateway.greet()
            began = time.perf_counter()
            for _ in range(6):
                writer.write(b"x" * 100_000 + b"\n")
            await until(lambda: len(gateway.links[0].frames) == 7)
            assert time.perf_counter() - began > 0.35
            assert gateway.listeners.counters["rate"] > 0
            assert gateway.links[0].errors == []

    run(test())


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_a_reader_that_never_reads_is_ended(scheme: str, tmp_path: Path) -> None:
    """At 1 MiB beyond what the system's buffers take; what it has not read is not kept."""

    async def test() -> None:
        address = f"unix:{tmp_path}/a" if scheme == "unix" else "tcp://127.0.0.1:0"
        async with listening(address) as gateway:
            _, other = await gateway.greet()
            _, deaf = await gateway.greet()
            deaf.transport.pause_reading()  # type: ignore[attr-defined]
            link = gateway.links[1]
            most = 0
            for _ in range(1000):
                link.transport.send(b"x" * 100_000)
                most = max(most, gateway.listeners.held_bytes)
                if link.errors:
                    break
                await asyncio.sleep(0)
            assert link.errors == ["slow_consumer"]
            assert 900_000 < most <= LIMITS.unsent + 200_000
            await until(lambda: link.ended)
            assert gateway.listeners.held_bytes == 0
            assert gateway.listeners.counters == {"slow_consumer": 1}
            assert await served(gateway, other) < 1

    run(test())


def test_a_peer_that_does_not_close_is_closed() -> None:
    """After what was sent it has so long to close its own end."""

    async def test() -> None:
        async with listening(limits=replace(LIMITS, close=0.1)) as gateway:
            await gateway.greet()
            [link] = gateway.links
            link.transport.close()
            await until(lambda: link.ended)
            assert gateway.listeners.counters == {"not_closed": 1}

    run(test())


# The account of bytes.


def test_the_largest_is_closed_first() -> None:
    """And only as many as it takes."""
    held, links = HeldBytes(100), [Probe() for _ in range(4)]
    for link, size in zip(links, (30, 40, 20, 10), strict=True):
        held.hold(link, size)
    assert [link.stops for link in links] == [[], [], [], []]

    held.hold(links[2], 21)

    assert [link.stops for link in links] == [[], ["overloaded"], [], []]
    assert held.total == 61
    for link in links:
        held.hold(link, 0)
    assert held.total == 0


def test_many_half_frames_stay_within_the_account() -> None:
    """A hundred links that each begin a frame of a megabyte hold what the process may hold, and others are served."""

    async def test() -> None:
        limits = replace(LIMITS, held=8 * 1024**2)
        async with listening(limits=limits) as gateway:
            _, other = await gateway.greet()
            for n in range(40):
                _, writer = await gateway.greet()
                writer.write(b"x" * (FRAME_BYTES - 1000 * n))
                await until(lambda n=n: gateway.listeners.held_bytes > 0 or n == 0)
                assert gateway.listeners.held_bytes <= limits.held
            assert await served(gateway, other) < 1
            await until(lambda: gateway.listeners.counters["overloaded"] >= 32)
            assert gateway.links[0].errors == []

    run(test())


# Links and accepts.


def admission(**limits: float) -> tuple[Admission, Counter[str]]:
    """An account of links with these limits."""
    counters: Counter[str] = Counter()
    return Admission(replace(LIMITS, **limits), counters), counters  # type: ignore[arg-type]


def test_links_are_counted_in_all_and_by_source() -> None:
    """One source cannot take what others need; whoever goes makes room."""
    account, counters = admission(links=4, links_per_peer=2)
    links = [Probe() for _ in range(6)]

    admitted = [account.admit(link, source, 0) for link, source in zip(links, "aaabcc", strict=True)]

    assert admitted == [True, True, False, True, True, False]
    assert counters == {"too_many_links": 2}
    account.release(links[0])
    account.release(links[2])
    assert account.admit(links[2], "a", 0)
    assert account.links == 4


def test_the_oldest_stranger_gives_way() -> None:
    """Whoever holds its link and says nothing is replaced, but not before it had a second to speak."""
    account, counters = admission(strangers=2, patience=1)
    first, second, third, fourth = (Probe() for _ in range(4))
    assert account.admit(first, "a", 0.0)
    assert account.admit(second, "a", 0.1)

    assert not account.admit(third, "b", 0.9)
    assert account.admit(third, "b", 1.0)

    assert (first.stops, second.stops) == (["too_many_links"], [])
    account.know(second)
    assert account.admit(fourth, "b", 1.0)
    assert (second.stops, third.stops) == ([], [])
    assert counters == {"too_many_links": 1}


def test_silent_links_do_not_keep_others_out() -> None:
    """Fifty that say nothing fill the part of strangers; a crawler that speaks is served all the same."""

    async def test() -> None:
        async with listening(limits=replace(LIMITS, strangers=50, patience=0.05)) as gateway:
            for _ in range(50):
                await gateway.connect()
            await until(lambda: gateway.listeners.strangers == 50)
            await asyncio.sleep(0.06)
            for n in range(30):
                _, crawler = await gateway.greet()
                assert gateway.listeners.strangers == 49 - n or gateway.listeners.strangers <= 50
            assert sum("too_many_links" in link.errors for link in gateway.links) in range(1, 31)
            assert gateway.listeners.links <= 80
            crawler.write(b"{}\n")
            await until(lambda: len(gateway.links[-1].frames) == 2)

    run(test())


def test_a_refused_crawler_reads_why() -> None:
    """Before anything is made for it."""

    async def test() -> None:
        async with listening(limits=replace(LIMITS, links_per_peer=1)) as gateway:
            await gateway.greet()
            reader, writer = await gateway.connect()
            writer.write(b'{"type":"hello"}\n')
            answer = await reader.read()
            assert b'"code": "too_many_links"' in answer
            assert answer.endswith(b"\n")
            assert len(gateway.links) == 1

    run(test())


def test_accepting_has_a_rate() -> None:
    """Links that come faster wait in the backlog; none is lost."""

    async def test() -> None:
        async with listening(limits=replace(LIMITS, accept_rate=200, burst=0.04)) as gateway:
            began = time.perf_counter()
            await asyncio.gather(*(gateway.greet() for _ in range(60)))
            assert time.perf_counter() - began > 0.2
            assert gateway.listeners.counters["accept_rate"] > 0
            assert gateway.listeners.links == 60

    run(test())


def test_a_shortage_of_descriptors_pauses_accepting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links that are open go on, and those that wait are accepted when there are descriptors again."""

    async def test() -> None:
        async with listening() as gateway:
            _, other = await gateway.greet()
            [acceptor] = gateway.listeners._acceptors
            real = acceptor._sock
            short = Short(real)
            acceptor._sock = short  # type: ignore[assignment]
            reader, writer = await gateway.connect()
            writer.write(b'{"type":"hello"}\n')
            await until(lambda: gateway.listeners.counters["no_descriptors"] > 0)
            tries = short.tries
            assert await served(gateway, other) < 1
            assert short.tries <= tries + 2
            acceptor._sock = real
            assert await reader.readline() == b'{"type":"welcome"}\n'

    monkeypatch.setattr("gateway.listeners.accept._SHORTAGE_PAUSE_S", 0.05)
    run(test())


class Short:
    """A listening socket of a process that has no descriptor left."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.tries = 0

    def fileno(self) -> int:
        """That of the real one."""
        return self._sock.fileno()

    def accept(self) -> None:
        """Fail as the system does."""
        self.tries += 1
        raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_many_connects_at_once_are_all_served(scheme: str, tmp_path: Path) -> None:
    """All get their welcome, though strangers may be a tenth of them, and one from before is served meanwhile."""
    number = 10_000 if deep() else 200

    async def test() -> None:
        address = f"unix:{tmp_path}/a" if scheme == "unix" else "tcp://127.0.0.1:0"
        limits = replace(LIMITS, links=2 * number, links_per_peer=2 * number, strangers=number // 10)
        raise_descriptor_limit()
        async with listening(address, limits=replace(limits, accept_rate=1000)) as gateway:
            _, other = await gateway.greet()
            place = gateway.address.path or f"127.0.0.1:{gateway.address.port}"
            crawlers = await asyncio.create_subprocess_exec(
                sys.executable, CROWD, place, str(number), stdin=PIPE, stdout=PIPE
            )
            assert crawlers.stdin is not None
            assert crawlers.stdout is not None
            welcome = asyncio.ensure_future(crawlers.stdout.readline())
            times = [await served(gateway, other, 1)]
            while not welcome.done():
                times.append(await served(gateway, other, 1))
            assert welcome.result() == b"welcome\n"
            assert gateway.listeners.links == number + 1
            assert gateway.listeners.strangers == 0
            assert sorted(times)[int(len(times) * 0.99)] < 0.25
            crawlers.stdin.close()
            await crawlers.wait()
            await until(lambda: gateway.listeners.links == 1)

    run(test())


def test_the_pace_lets_bursts_pass() -> None:
    """So much at once after a silence, then as much as the rate allows."""
    pace = Pace(burst=1)
    waits = [pace.take(0.25, now=100) for _ in range(6)]

    assert waits == [0, 0, 0, 0, 0.25, 0.5]
    assert pace.take(0.25, now=100.5) == pytest.approx(0.25)
    assert pace.take(0.25, now=200) == 0


# What the settings and the system allow.


def test_limits_follow_settings_and_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many links as there are descriptors, less those for everything else."""
    set_servers(monkeypatch)
    limits = Limits.of(Settings(), 1200)

    assert (limits.links, limits.links_per_peer, limits.strangers) == (1000, 900, 100)
    monkeypatch.setenv("CRAWLYARD_GATEWAY_MAX_LINKS", "50")
    monkeypatch.setenv("CRAWLYARD_GATEWAY_MAX_LINKS_PER_PEER", "20")
    limits = Limits.of(Settings(), 1200)
    assert (limits.links, limits.links_per_peer, limits.strangers) == (50, 20, 5)
    with pytest.raises(SettingsError, match=r"the limit of descriptors is 200.*ulimit -n"):
        Limits.of(Settings(), 200)


def test_the_limit_of_descriptors_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """To what the process may have."""
    had = [(100, 5000)]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: had[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: had.append(limits))

    assert raise_descriptor_limit() == 5000
    assert had[-1] == (5000, 5000)
    had.append((300, resource.RLIM_INFINITY))
    assert raise_descriptor_limit() == 1024**2
    assert had[-1] == (1024**2, resource.RLIM_INFINITY)
