"""Both event loops under the sockets: asyncio's own, and uvloop, which a gateway takes where it is installed."""

import asyncio
from collections.abc import Iterator

import pytest
import uvloop

from support.depth import deep
from support.gateway.listening import LOOPS

ON_BOTH = ("test_streams", "test_tls", "test_web_socket")
"""The modules that run on uvloop also in the short form; test_bounds does in the long one."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests of sockets on each loop."""
    module = metafunc.module.__name__.rpartition(".")[2]
    if module in ON_BOTH or (module == "test_bounds" and deep()):
        metafunc.parametrize("loop", ["asyncio", "uvloop"], indirect=True)


@pytest.fixture(autouse=True)
def loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """The loop that run() makes."""
    uses_uvloop = getattr(request, "param", "asyncio") == "uvloop"
    LOOPS.insert(0, uvloop.new_event_loop if uses_uvloop else asyncio.new_event_loop)
    yield
    LOOPS.pop(0)
