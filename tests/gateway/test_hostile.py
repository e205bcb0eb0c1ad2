"""Hostile peers of a real gateway: its memory stays bounded, and others are served meanwhile."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from support.depth import deep
from support.gateway import hostile
from support.gateway.crawlers import Crawler, crawling
from support.gateway.systems import GatewaySystem

pytestmark = [pytest.mark.programs, pytest.mark.one_world, pytest.mark.database]

SECONDS = 10.0 if deep() else 0.5
HELD_MIB = 16

ENDS = {"half_frames": "overloaded"} | ({"never_reads": "slow_consumer"} if deep() else {})
"""Why links of some of them are ended; by how fast they may send, the other one takes some seconds."""


@pytest.fixture(scope="module")
def gateway(system: GatewaySystem) -> Iterator[tuple[Path, psutil.Process]]:
    """A gateway that may hold 16 MiB for its links."""
    path = system.socket.with_name("bounded.sock")
    system.start_gateway(
        f"unix:{path}?trust=peer", "bounded", CRAWLYARD_GATEWAY_MAX_BYTES=str(HELD_MIB * 1024**2)
    )
    yield path, psutil.Process(system.system.processes[-1].pid)
    system.stop_second_gateway()


@contextmanager
def attacked(kind: str, path: Path) -> Iterator[None]:
    """Let hostile peers do their work."""
    command = [sys.executable, hostile.__file__, kind, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as peers:
        assert peers.stdout is not None
        assert peers.stdout.readline() == b"begun\n"
        yield
        peers.kill()


def answer_times(crawler: Crawler, seconds: float) -> list[float]:
    """Ping for so long, with a heartbeat each second; returns how long each answer took, sorted."""
    times, deadline, beat = [], time.monotonic() + seconds, 0.0
    while time.monotonic() < deadline:
        if time.monotonic() > beat:
            crawler.wire.send("heartbeat", activeJobs=[])
            beat = time.monotonic() + 1
        began = time.perf_counter()
        crawler.wire.send("ping", nonce="n")
        crawler.wire.next("pong")
        times.append(time.perf_counter() - began)
        time.sleep(0.002)
    return sorted(times)


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_others_are_served(kind: str, system: GatewaySystem, gateway: tuple[Path, psutil.Process]) -> None:
    """
    Whatever hostile peers do, another crawler gets its answers, and the gateway does not grow.

    The aim, an answer in at most twice the undisturbed time, needs a quiet machine; here it only must not starve.
    """
    path, process = gateway
    crawler = Crawler(path, f"served-beside-{kind}")
    with crawling(crawler):
        crawler.connect()
        before, memory = answer_times(crawler, SECONDS / 2), process.memory_info().rss
        with attacked(kind, path):
            during = answer_times(crawler, SECONDS)
            grown = (process.memory_info().rss - memory) / 1024**2
        figures = {"before": _p99(before), "during": _p99(during), "most": during[-1], "grown_mib": grown}
        print(kind, {name: round(figure, 4) for name, figure in figures.items()})  # noqa: T201 - a figure to read

        assert _p99(during) < (0.25 if deep() else 1)  # the short form runs beside other tests
        assert grown < 3 * HELD_MIB
        if code := ENDS.get(kind):
            assert f"code={code}" in system.log_of(system.system.processes[-1])
        assert crawler.leave()


def _p99(times: list[float]) -> float:
    return times[int(len(times) * 0.99)]
