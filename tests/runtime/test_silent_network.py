"""A silent network to Postgres ends a session by the timeouts of TCP; the pools without processes have no other."""

import ctypes
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import Barrier, Event, Thread
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text

from persistence.db import session
from persistence.settings import settings
from support.command import Sql
from support.depth import deep
from support.engines import forget_engine
from support.processes.workers import wait_until
from support.worlds.world import World
from tasks.runtime.retry import run_until_done
from tasks.runtime.unit import unit_of_work

SHORT = {"tcp_user_timeout": 500, "keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 1}
"""A fifteenth of what is set, in whole seconds where TCP has no others."""

BOUND_S = 60 if deep() else 8

_ATTACH_FILTER = 26
"""SO_ATTACH_FILTER, which Python does not name."""

_DROP = struct.pack("HBBI", 0x06, 0, 0, 0)
"""The program of a filter that accepts no packet."""


_SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


class Wire:
    """A proxy in front of a server. Once it is silent, it does not even acknowledge what it is sent."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        Thread(target=self._accept, daemon=True).start()

    def fall_silent(self) -> None:
        """Let the connections of now be silent; later ones work."""
        program = ctypes.create_string_buffer(_DROP)
        for end in self._ends:
            with suppress(OSError):
                end.setsockopt(
                    socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program))
                )

    def close(self) -> None:
        """Close all."""
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._server)
                self._ends += (near, far)
                for source, sink in ((near, far), (far, near)):
                    Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def wire(world: World, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """The wire between the units of a test and the database."""
    server = urlsplit(database)
    assert server.hostname
    assert server.port
    wire = Wire(server.hostname, server.port)
    monkeypatch.setenv("DATABASE_URL", database.replace(f":{server.port}/", f":{wire.port}/"))
    monkeypatch.setenv("CRAWLYARD_DATABASE_WAIT", "60")
    if not deep():
        monkeypatch.setattr(session, "CONNECT", {**session.CONNECT, **SHORT})
    settings.cache_clear()
    forget_engine()
    yield wire
    forget_engine()
    wire.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such timeout")
def test_a_silent_network_ends_a_session(wire: Wire, sql: Sql) -> None:
    """Whether a statement is sent into it, or an answer is awaited: the unit then runs on another connection."""
    silent, ready = Event(), Barrier(2)
    began: dict[str, list[float]] = {"sending": [], "awaiting": []}

    def unit(kind: str) -> None:
        began[kind].append(time.monotonic())
        with unit_of_work() as uow:
            if len(began[kind]) == 1 and kind == "sending":
                ready.wait()
                silent.wait()
            seconds = 60 if len(began[kind]) == 1 and kind == "awaiting" else 0
            uow.accounts._session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
            uow.commit()

    with ThreadPoolExecutor() as pool:
        ends = [pool.submit(run_until_done, partial(unit, kind)) for kind in began]
        ready.wait()
        wait_until(lambda: sql(_SLEEPING) != [(0,)] or ends[1].done(), "one is awaiting")
        assert not ends[1].done(), ends[1].exception()
        wire.fall_silent()
        silent.set()
        try:
            for end in ends:
                end.result(BOUND_S)
        finally:
            wire.close()  # whoever still waits ends

    assert {kind: len(tries) for kind, tries in began.items()} == {"sending": 2, "awaiting": 2}
