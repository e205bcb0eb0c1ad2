"""
What idle links cost a gateway: its resident memory and CPU time, over TCP, TLS and WebSocket.

Each link has its crawler, known by a secret, and a row; it beats, and answers pings. Memory is compared with that
before the first link; CPU time is that of one interval of heartbeats, in which each crawler beats once, with all that a
gateway does without links.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gateway.running import certificate, fleet, free_address, gateways
from benchmarks.harness.bed import bed
from benchmarks.harness.figures import Figure, at_most
from console.embedded.servers import Services
from persistence.settings import settings

KINDS = {"tcp": "TCP", "tls": "TLS", "ws": "WebSocket"}

_SETTLES_S = 5.0
_AIMED_LINKS, _AIMED_CORE, _AIMED_KIB = 10_000, 0.3, 40


def measure(services: Services, links: int) -> Iterator[Figure]:
    """KiB a link, and the share of a core of all; the aim for 10,000 links is taken in proportion."""
    own, authority = certificate(Path(services.folder))
    for scheme, kind in KINDS.items():
        address = free_address(scheme)
        with bed(services) as there, there.workers(), gateways(there, address, **own) as (gateway,):
            before = gateway.kibibytes
            with fleet(there, [address], links, 1, authority=authority):
                time.sleep(_SETTLES_S)
                interval = settings().heartbeat_interval.total_seconds()
                used, since = gateway.cpu_seconds, time.monotonic()
                time.sleep(interval)
                share = (gateway.cpu_seconds - used) / (time.monotonic() - since)
                grown = (gateway.kibibytes - before) / links
        yield Figure(f"an idle link, {links:,} over {kind}", "KiB", [grown], aim=at_most(_AIMED_KIB))
        aim = at_most(_AIMED_CORE * links / _AIMED_LINKS)
        yield Figure(f"{links:,} idle links over {kind}", "core", [share], aim=aim)
