"""
The test bed: temporary servers, a new database for each line, real workers.

fsync and synchronous_commit are on, and Postgres has its default settings: nothing is tuned for any candidate.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import psutil
import psycopg
import redis

from benchmarks.harness.messages import Publisher
from console.demo.processes import Supervisor
from console.embedded.servers import Services, embedded_services
from persistence.db import engine as engines
from persistence.migrations.run import migrate
from persistence.settings import settings
from tasks.worker import heartbeat_file
from tasks.worker.liveness import BEAT, WORKER

PATIENCE_S = 300.0

QUIET = {
    # Maintenance runs at its usual intervals. No connection may expire because the benchmark pauses.
    "CRAWLYARD_CONNECTION_TIMEOUT": "600",
    "CRAWLYARD_ABSENCE_GRACE": "600",
}

T = TypeVar("T")


def wait_until(probe: Callable[[], T], what: str, patience: float = PATIENCE_S, pause: float = 0.02) -> T:
    """Wait for a true result of *probe*, and return it. Raises TimeoutError."""
    deadline = time.monotonic() + patience
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not in {patience:.0f} s: {what}")
        time.sleep(pause)
    return answer


@dataclass
class Bed:
    """An empty migrated database and an empty broker, on which workers can be started."""

    services: Services
    database_url: str
    broker: "redis.Redis[bytes]"
    database: psycopg.Connection[Any]
    """A connection of the benchmark's own, in autocommit."""
    publisher: Publisher

    @contextmanager
    def workers(self, count: int = 1, children: int = 2, **environment: str) -> Iterator[Supervisor]:
        """Run *count* workers with *children* pool processes each, and beat; they are ready when this returns."""
        variables = os.environ | self.environment() | QUIET | environment
        logs = Path(self.services.folder) / f"logs-{uuid4().hex[:8]}"
        logs.mkdir()
        with Supervisor(logs, variables) as supervisor:
            for number in range(count):
                arguments = ("--concurrency", str(children), "--loglevel", "WARNING")
                supervisor.start(f"worker-{number}", "worker", *arguments)
            supervisor.start("beat", "beat", "--loglevel", "WARNING")
            wait_until(lambda: _alive() == count + 1, "the workers and beat are up")
            self.publisher.publish(
                "connections.expire_dead"
            )  # beat publishes its first one after ten seconds
            wait_until(
                lambda: self.one("SELECT last_sweep_at IS NOT NULL FROM liveness_state"), "a worker sweeps"
            )
            yield supervisor

    def environment(self) -> dict[str, str]:
        """Return the environment of our processes."""
        return {"DATABASE_URL": self.database_url, "BROKER_URL": self.services.broker_url}

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Run a statement, and return its rows."""
        cursor = self.database.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []

    def one(self, sql: str, *values: Any) -> Any:
        """Run a statement, and return its only value."""
        ((value,),) = self.rows(sql, *values)
        return value

    def until_idle(self) -> None:
        """Wait until no message is queued or being handled."""
        wait_until(lambda: not self.publisher.waiting(), "the queues are empty")


@contextmanager
def servers() -> Iterator[Services]:
    """Run PostgreSQL and Valkey for all lines."""
    with embedded_services({"shared_preload_libraries": "pg_stat_statements"}) as services:
        yield services


@contextmanager
def bed(services: Services) -> Iterator[Bed]:
    """Create a bed for one line, and remove it at the end."""
    name = f"bench_{uuid4().hex[:12]}"
    url = f"{services.database_url.rsplit('/', 1)[0]}/{name}"
    with psycopg.connect(services.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        os.environ |= {"DATABASE_URL": url, "BROKER_URL": services.broker_url}
        _forget()
        migrate()
        broker = redis.Redis.from_url(services.broker_url)
        broker.flushall()
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as database:
            yield Bed(services, url, broker, database, Publisher(broker))
        engines.engine().dispose()
        broker.flushall()
        broker.close()
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _alive() -> int:
    """Count our workers and beats that write heartbeat files."""
    ours = {process.pid for process in psutil.Process().children(recursive=True)}
    return sum(reading.pid in ours for kind in (WORKER, BEAT) for reading in heartbeat_file.read(kind))


def _forget() -> None:
    settings.cache_clear()
    engines.forget()
