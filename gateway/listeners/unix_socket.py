"""Makes the file of a Unix socket: replaces one that a dead gateway left, never one that is in use."""

import errno
import fcntl
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.listeners.addresses import SETTING, ListenAddress
from persistence.exceptions import SettingsError

_DIRECTORY_MODE: Final = 0o750


class UnixSocket:
    """
    A bound socket and its file.

    A lock on a file beside it is held as long as the gateway lives: two gateways that start at once cannot both take
    the file of a third that has died.
    """

    def __init__(self, address: ListenAddress) -> None:
        self._path = Path(address.path)
        self._lock = -1
        try:
            self._make_directory()
            self._lock = self._locked()
            self._refuse_foreign()
            self.sock = self._bound(address)
        except OSError as error:
            self._unlock()
            raise SettingsError(
                f"{SETTING} names {address}, where no socket can be made: {error.strerror}; check the folder, its "
                "owner and its mode"
            ) from None
        except SettingsError:
            self._unlock()
            raise
        self._inode = self._path.stat().st_ino

    def remove(self) -> None:
        """Remove the file, unless it is another socket's by now. The socket itself is closed by who has it."""
        with suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        self._unlock()

    def _make_directory(self) -> None:
        with suppress(FileExistsError):
            self._path.parent.mkdir(_DIRECTORY_MODE)
            self._path.parent.chmod(_DIRECTORY_MODE)  # whatever the umask is

    def _locked(self) -> int:
        lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise self._in_use() from None
        return lock

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _in_use(self) -> SettingsError:
        return SettingsError(
            f"{SETTING} names {self._path}, which another process listens on; stop it, or choose another path"
        )

    def _refuse_foreign(self) -> None:
        """Refuse a file that is no socket, or a socket on which a program without our lock listens."""
        try:
            mode = self._path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise SettingsError(f"{SETTING} names {self._path}, which is no socket; choose another path")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(0)
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                return
            except OSError as error:
                if error.errno != errno.EAGAIN:  # its backlog is full: it is in use
                    raise
            raise self._in_use()

    def _bound(self, address: ListenAddress) -> socket.socket:
        """Bind under another name and rename: the file never has a mode, group or socket that is not meant."""
        temporary = self._path.with_name(f".{os.getpid():x}")
        sock = socket.socket(socket.AF_UNIX)
        try:
            with suppress(FileNotFoundError):
                temporary.unlink()
            sock.bind(str(temporary))
            if address.group is not None:
                os.chown(temporary, -1, address.group)
            temporary.chmod(address.mode)
            sock.listen(1)
            temporary.rename(self._path)
        except OSError:
            sock.close()
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise
        return sock
