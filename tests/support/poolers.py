"""A PgBouncer in transaction mode before the tests' server, if the environment names its program."""

import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import psycopg

from console.embedded.server import EmbeddedServer, StopMode, write_for_server
from console.embedded.temporary_folder import ServerSandbox, temporary_sandbox

VARIABLE = "CRAWLYARD_TEST_PGBOUNCER"
"""The path of the PgBouncer program; `make test-pgbouncer` sets it."""

CONNECTIONS = 4
"""Server connections per database: fewer than any test with workers has clients."""

_CONFIGURATION = """\
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
pool_mode = transaction
auth_type = scram-sha-256
auth_file = {users}
default_pool_size = {connections}
max_client_conn = 300
query_wait_timeout = {wait_s}
server_login_retry = 1
"""
"""As in docs/scaling.md."""


class Pooler(EmbeddedServer):
    """PgBouncer before the server of a URL. It can be stopped, killed and restarted like the embedded servers."""

    name = "pgbouncer"
    signals: ClassVar[Mapping[StopMode, signal.Signals]] = {
        "fast": signal.SIGTERM,
        "immediate": signal.SIGTERM,
        "kill": signal.SIGKILL,
    }

    def __init__(
        self, sandbox: ServerSandbox, program: Path, url: str, connections: int, wait_s: int
    ) -> None:
        super().__init__(sandbox)
        self._program = program
        self._server = urlsplit(url)
        self._limits = {"connections": connections, "wait_s": wait_s}

    @property
    def url(self) -> str:
        """The URL of the server's database through the pooler."""
        return self.url_of(self._server.geturl())

    def url_of(self, url: str) -> str:
        """Rewrite a URL of the server to lead through the pooler; other URLs stay unchanged."""
        return self._url_at(self.port, url)

    def _url_at(self, port: int, url: str) -> str:
        server = self._server.netloc.rpartition("@")[2]
        return url.replace(f"@{server}/", f"@127.0.0.1:{port}/")

    def _command(self, port: int) -> list[str]:
        user = f'"{self._server.username}" "{self._server.password}"\n'
        text = _CONFIGURATION.format(
            host=self._server.hostname,
            port=self._server.port,
            own_port=port,
            users=write_for_server(self._sandbox.folder / "users.txt", user),
            **self._limits,
        )
        return [str(self._program), str(write_for_server(self._sandbox.folder / "pgbouncer.ini", text))]

    def _answers(self, port: int) -> bool:
        try:
            psycopg.connect(self._url_at(port, self._server.geturl()), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def pooler(program: Path, url: str, connections: int = CONNECTIONS, wait_s: int = 10) -> Iterator[Pooler]:
    """Run a pooler before the server at *url*, and remove it at the end."""
    with temporary_sandbox() as sandbox:
        pooler = Pooler(sandbox, program, url, connections, wait_s)
        pooler.start()
        yield pooler


_between: list[Pooler] = []
"""The pooler of this test process, if any."""


def installed() -> Path | None:
    """The PgBouncer program that the environment names, or the installed one, or None."""
    path = os.environ.get(VARIABLE) or shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    return Path(path) if path else None


def is_asked_for() -> bool:
    """True if the tests must use a pooler."""
    return bool(os.environ.get(VARIABLE))


@contextmanager
def in_front_of(url: str) -> Iterator[None]:
    """Run a pooler before the server at *url*, if the environment asks for it."""
    if not is_asked_for():
        yield
        return
    with pooler(Path(os.environ[VARIABLE]), url) as between:
        _between.append(between)
        yield
        _between.clear()


def environment(url: str) -> dict[str, str]:
    """The settings for the database at *url*: the URL through the pooler, and the direct one."""
    if not _between:
        return {"DATABASE_URL": url}
    return {"DATABASE_URL": through(url), "CRAWLYARD_DIRECT_DATABASE_URL": url}


def through(url: str) -> str:
    """The URL of the same database through the pooler, if there is one."""
    return _between[0].url_of(url) if _between else url
