"""The demo's gateways: two real processes, of which one is killed in the middle of the day."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from console.demo.processes import Child, Supervisor
from persistence.settings import PREFIX

NAMES = ("gateway-1", "gateway-2")
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class DemoGateway:
    """A gateway, and the socket at which it listens."""

    child: Child
    socket: Path

    @property
    def address(self) -> str:
        """The address for crawlers."""
        return f"unix:{self.socket}"


def start_gateways(processes: Supervisor, folder: Path) -> list[DemoGateway]:
    """Start gateways that trust the processes of this user, so that no crawler needs a secret."""
    sockets = folder / "gateways"
    sockets.mkdir(mode=0o700)
    return [_start(name, processes, sockets / f"{name}.sock") for name in NAMES]


def _start(name: str, processes: Supervisor, socket: Path) -> DemoGateway:
    own = {f"{PREFIX}GATEWAY_NAME": name, f"{PREFIX}GATEWAY_LISTEN": f"unix:{socket}?trust=peer"}
    return DemoGateway(processes.start(name, "gateway", environment=own), socket)


def wait_until_listening(gateways: Sequence[DemoGateway], seconds: float) -> None:
    """Return when all listen, or after this time: the crawlers go on trying."""
    deadline = time.monotonic() + seconds
    while not all(gateway.socket.exists() for gateway in gateways) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
