"""All addresses together: listened on at once, or not at all, with one line about what is in the way."""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.listeners import listeners
from gateway.listeners.addresses import read_addresses
from gateway.listeners.listeners import Listeners
from persistence.exceptions import SettingsError
from support.gateway.listening import LIMITS, Link, listening, run


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        yield other.getsockname()[1]


async def refusal(text: str) -> str:
    """Why these addresses cannot be listened on."""
    made = Listeners(read_addresses(text), Link, LIMITS, Counter())
    with pytest.raises(SettingsError) as refused:
        await made.start()
    assert made.addresses == []
    return str(refused.value)


def test_several_addresses_are_one_gateway(tmp_path: Path) -> None:
    """Links of all of them are counted together."""

    async def test() -> None:
        async with listening(f"tcp://127.0.0.1:0, unix:{tmp_path}/a, unix:{tmp_path}/b") as gateway:
            assert [one.scheme for one in gateway.listeners.addresses] == ["tcp", "unix", "unix"]
            for name in "ab":
                reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/{name}")
                gateway.crawlers.append(writer)
                writer.write(b"{}\n")
                await reader.readline()
            await gateway.greet()
            assert gateway.listeners.links == 3
            assert {str(link.transport.peer.listener) for link in gateway.links} == {
                str(one) for one in gateway.listeners.addresses
            }

    run(test())


def test_one_address_that_cannot_be_had_ends_the_start(taken: int, tmp_path: Path) -> None:
    """None is listened on then, and no file is left."""

    async def test() -> None:
        why = await refusal(f"unix:{tmp_path}/a, tcp://127.0.0.1:{taken}")
        assert why == (
            f"CRAWLYARD_GATEWAY_LISTEN names tcp://127.0.0.1:{taken}, which cannot be listened on: another process "
            "listens there; stop it, or choose another port"
        )
        assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]  # noqa: ASYNC240 - nobody else waits

    run(test())


@pytest.mark.parametrize(
    ("host", "remedy"),
    [("203.0.113.1", "this machine has no such address"), ("nowhere.invalid", "check host and port")],
)
def test_a_foreign_host_is_refused(host: str, remedy: str) -> None:
    """An address of another machine, or a name that nobody knows."""

    async def test() -> None:
        assert remedy in await refusal(f"tls://{host}:0".replace("tls", "tcp") + "?insecure=yes")

    run(test())


def test_a_name_is_listened_on_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """As localhost in a container without IPv6."""
    real = listeners._bind

    def bind(family: int, place: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return real(family, place)

    async def both(*_args: object, **_more: object) -> list[Any]:
        return [
            (socket.AF_INET6, 1, 6, "", ("::1", 0, 0, 0)),
            (socket.AF_INET, 1, 6, "", ("127.0.0.1", 0)),
        ]

    async def test() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
        async with listening("tcp://localhost:0") as gateway:
            assert len(gateway.listeners.addresses) == 1

    monkeypatch.setattr(listeners, "_bind", bind)
    run(test())


def test_links_stay_when_no_more_are_accepted() -> None:
    """As while a gateway drains; then all are closed, each after what it was sent."""

    async def test() -> None:
        async with listening() as gateway:
            reader, _ = await gateway.greet()
            port = gateway.address.port
            await gateway.listeners.stop_accepting()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            gateway.links[0].transport.send(b'{"type":"shutdown"}')
            closing = asyncio.ensure_future(gateway.listeners.close())
            assert await reader.read() == b'{"type":"shutdown"}\n'
            for crawler in gateway.crawlers:
                crawler.close()
            await closing
            assert gateway.links[0].ended == [None]

    run(test())
