"""The proxies of a chaos run: the effect of each state on open and on new connections."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from proofs.chaos.system.proxy import Link, LinkState, Network
from support.processes.workers import free_port, wait_until


class Echo:
    """A server that echoes what it receives, and counts its ended connections."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._echo, args=(self._listener.accept()[0],), daemon=True).start()

    def _echo(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            while piece := client.recv(65_536):
                self.received += piece
                client.sendall(piece)
        self.ended += 1


@pytest.fixture
def echo() -> Iterator[Echo]:
    """The server at the far end."""
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def link(echo: Echo) -> Iterator[Link]:
    """A link to the server."""
    with Network() as network:
        yield network.link(echo.port)


def call(link: Link) -> socket.socket:
    """Return a connection over the link that waits a second for an answer."""
    client = socket.create_connection(("127.0.0.1", link.port), timeout=5)
    client.settimeout(1.0)
    return client


def echoed(client: socket.socket, text: bytes) -> bytes:
    """Send a text and return the echo."""
    client.sendall(text)
    answer = b""
    while len(answer) < len(text):
        answer += client.recv(65_536)
    return answer


def test_an_open_link_passes_everything(link: Link) -> None:
    """A normal link passes everything, also what is longer than a chunk."""
    text = b"x" * 300_000
    with call(link) as client:
        sender = threading.Thread(target=client.sendall, args=(text,))
        sender.start()
        answer = b""
        while len(answer) < len(text):
            answer += client.recv(65_536)
        sender.join()
    assert answer == text


def test_a_cut_link_resets_open_connections_and_refuses_new_ones(link: Link, echo: Echo) -> None:
    """A cut link resets and refuses until it is normal again, on the same port."""
    with call(link) as client:
        assert echoed(client, b"one") == b"one"
        link.set_state(LinkState.CUT)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        call(link)
    link.set_state(LinkState.NORMAL)
    with call(link) as client:
        assert echoed(client, b"two") == b"two"
    assert echo.received == b"onetwo"


def test_a_stalled_link_delivers_everything_later(link: Link, echo: Echo) -> None:
    """A stalled link accepts new connections, and delays them too."""
    with call(link) as client:
        link.set_state(LinkState.STALLED)
        with call(link) as other:
            for caller in (client, other):
                with pytest.raises(TimeoutError):
                    echoed(caller, b"late")
            assert echo.received == b""
            link.set_state(LinkState.NORMAL)
            assert client.recv(4) == other.recv(4) == b"late"


def test_a_deaf_link_discards_data_without_telling_the_far_end(link: Link, echo: Echo) -> None:
    """The far end does not even notice that the near one has closed, until both are reset at the end."""
    with call(link) as gone, call(link) as client:
        assert echoed(gone, b"one") == b"one"
        assert echoed(client, b"two") == b"two"
        link.set_state(LinkState.DEAF)
        with call(link) as late:
            for caller in (gone, client, late):
                with pytest.raises(TimeoutError):
                    echoed(caller, b"lost")
        gone.close()
        assert echo.ended == 0
        link.set_state(LinkState.NORMAL)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with call(link) as client:
        assert echoed(client, b"three") == b"three"
    assert b"lost" not in echo.received


def test_a_link_may_be_deaf_in_one_direction(link: Link, echo: Echo) -> None:
    """What is sent the other way arrives, also over connections that are opened meanwhile."""
    with call(link) as client:
        assert echoed(client, b"one") == b"one"
        link.set_state(LinkState.DEAF_TO_CALLER)
        with call(link) as late:
            for caller, piece in ((client, b"two"), (late, b"three")):
                with pytest.raises(TimeoutError):
                    echoed(caller, piece)
        wait_until(lambda: b"two" in echo.received and b"three" in echo.received, "it arrives at the far end")
        link.set_state(LinkState.DEAF_TO_TARGET)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with call(link) as client:
        with pytest.raises(TimeoutError):
            echoed(client, b"lost")
        link.set_state(LinkState.NORMAL)
    assert b"lost" not in echo.received


def test_a_slow_link_delays_each_piece_both_ways(link: Link) -> None:
    """A slow link also delays connections that were open before."""
    with call(link) as client:
        client.settimeout(10)
        link.set_state(LinkState.SLOW, delay=0.2, bytes_a_second=1000)
        begun = time.monotonic()
        assert echoed(client, b"x" * 100) == b"x" * 100
        assert time.monotonic() - begun >= 2 * (0.2 + 0.1)


def test_a_connection_is_reset_when_the_far_end_does_not_listen() -> None:
    """A link to a server that is down resets its connections, as a load balancer does."""
    with Network() as network, pytest.raises(ConnectionResetError), call(network.link(free_port())) as client:
        client.recv(1)
