"""The file of a Unix socket: who may connect, and whose it is."""

import os
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest

from gateway.listeners.addresses import ListenAddress
from gateway.listeners.unix_socket import UnixSocket
from persistence.exceptions import SettingsError
from support.gateway.listening import listening, run


def mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a socket may be made, in a folder that is not there yet."""
    return tmp_path / "run" / "gateway.sock"


def test_the_folder_and_the_socket_are_for_one_group(path: Path) -> None:
    """Whatever the umask is."""
    before = os.umask(0)
    try:
        made = UnixSocket(ListenAddress("unix", path=str(path), group=os.getgid()))
    finally:
        os.umask(before)
    with closing(made.sock):
        assert (mode(path.parent), mode(path), path.stat().st_gid) == (0o750, 0o660, os.getgid())
        made.remove()
    assert not path.exists()


def test_the_mode_is_what_the_address_says(path: Path) -> None:
    """A folder that is there already keeps its own."""
    path.parent.mkdir(0o711)
    made = UnixSocket(ListenAddress("unix", path=str(path), mode=0o600))
    with closing(made.sock):
        assert (mode(path.parent), mode(path)) == (0o711, 0o600)
        made.remove()


def test_a_stale_file_is_replaced(path: Path) -> None:
    """One that a gateway left when it was killed."""
    path.parent.mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(path))
    inode = path.stat().st_ino
    made = UnixSocket(ListenAddress("unix", path=str(path)))
    with closing(made.sock), closing(socket.socket(socket.AF_UNIX)) as crawler:
        assert path.stat().st_ino != inode
        crawler.connect(str(path))
        made.remove()


def test_a_file_in_use_is_not_replaced(path: Path) -> None:
    """By another gateway, also if that has not begun to listen, or by any other program."""
    address = ListenAddress("unix", path=str(path))
    first = UnixSocket(address)
    with closing(first.sock):
        with pytest.raises(SettingsError, match="another process listens on; stop it"):
            UnixSocket(address)
        assert path.exists()
        first.remove()
    with closing(socket.socket(socket.AF_UNIX)) as other:
        other.bind(str(path))
        other.listen(0)
        with pytest.raises(SettingsError, match="another process listens on; stop it"):
            UnixSocket(address)
        with pytest.raises(SettingsError, match="another process listens on; stop it"):
            UnixSocket(address)  # its backlog is full of the look before


def test_what_is_no_socket_is_not_replaced(path: Path) -> None:
    """A setting may name any file by mistake."""
    path.parent.mkdir()
    path.write_text("precious")

    with pytest.raises(SettingsError, match="is no socket; choose another path"):
        UnixSocket(ListenAddress("unix", path=str(path)))

    assert path.read_text() == "precious"


def test_the_socket_of_another_is_not_removed(path: Path) -> None:
    """Where somebody has put another in its place."""
    made = UnixSocket(ListenAddress("unix", path=str(path)))
    with closing(made.sock), closing(socket.socket(socket.AF_UNIX)) as other:
        path.unlink()
        other.bind(str(path))
        made.remove()
    assert path.exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """With the setting and what to check."""
    with pytest.raises(SettingsError, match=r"CRAWLYARD_GATEWAY_LISTEN names unix:.*check the folder"):
        UnixSocket(ListenAddress("unix", path=str(tmp_path / "no" / "such" / "gateway.sock")))


def test_the_file_goes_with_its_listener(path: Path) -> None:
    """So that a crawler gets "no such file" and not a connection that nobody accepts."""

    async def test() -> None:
        async with listening(f"unix:{path}") as gateway:
            await gateway.greet()
            await gateway.listeners.stop_accepting()
            assert not path.exists()  # noqa: ASYNC240 - nobody else waits
            gateway.links[0].transport.send(b"{}")

    run(test())
