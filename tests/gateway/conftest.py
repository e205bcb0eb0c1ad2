"""A real gateway with a real worker, shared by the tests of a module."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from console.embedded.servers import Services
from support.gateway.systems import GatewaySystem
from support.processes.little_system import MiniSystem

SETTINGS = {"CRAWLYARD_SWEEP_INTERVAL": "0.5", "CRAWLYARD_RESUME_WINDOW": "2"}


@pytest.fixture(scope="module")
def system(
    services: Services, copy_migrated_to: Callable[[str], str], request: pytest.FixtureRequest
) -> Iterator[GatewaySystem]:
    """
    A database of its own, a worker, and a gateway that listens on a Unix socket.

    A module may have SETTINGS of its own, which are added.
    """
    changed = SETTINGS | getattr(request.module, "SETTINGS", {})
    name = "gateway"
    broker = f"{services.broker_url.rsplit('/', 1)[0]}/9"
    with (
        tempfile.TemporaryDirectory(prefix="gw") as folder,  # the path of a socket is short
        psycopg.connect(services.database_url, autocommit=True) as admin,
    ):
        little = MiniSystem(name, copy_migrated_to(name), broker, Path(folder), changed)
        try:
            system = GatewaySystem(little, Path(folder))
            yield system
            system.system.stop(system.gateway)  # while the worker handles its last reports
        finally:
            little.end()
            for log in sorted(Path(folder).glob("*.log")):  # pytest shows it where a test has failed
                print(f"== {log.name}", log.read_text(errors="replace")[-20_000:], sep="\n")  # noqa: T201
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
