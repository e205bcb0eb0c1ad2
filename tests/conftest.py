"""Real Postgres and real Redis for every test: one pair a test process, a fresh database a test."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from console.services.embedded import Services, embedded_services
from persistence import engine as engines
from persistence.settings import settings
from support.command import Run, Said
from support.world import EMPTY, Rung, World

FAST = {
    "CRAWLYARD_CONNECTION_TIMEOUT": "9",
    "CRAWLYARD_HEARTBEAT_INTERVAL": "3",
    "CRAWLYARD_SWEEP_INTERVAL": "1",
    "CRAWLYARD_ABSENCE_GRACE": "6",
    "CRAWLYARD_STALL_TIMEOUT": "360",
    "CRAWLYARD_START_TIMEOUT": "30",
    "CRAWLYARD_RETRY_DELAY": "0.5",
    "CRAWLYARD_DATABASE_WAIT": "6",
}
"""The defaults at a tenth."""

_END_OTHERS = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """PostgreSQL and Valkey; CRAWLYARD_TEST_POSTGRES_BIN names another PostgreSQL's programs."""
    binaries = os.environ.get("CRAWLYARD_TEST_POSTGRES_BIN")
    with embedded_services(
        {"fsync": "off"}, postgres_binaries=Path(binaries) if binaries else None
    ) as running:
        os.environ.update(running.environment() | FAST)
        yield running


@pytest.fixture(scope="session")
def migrated(services: Services) -> str:
    """The URL of a database that was migrated once; `database` empties it for each test."""
    from persistence.migrations.run import migrate  # noqa: PLC0415 - after the environment is set

    with _admin(services) as admin:
        admin.execute("CREATE DATABASE migrated")
    url = _url(services, "migrated")
    _use(url)
    migrate()
    engines.engine().dispose()
    return url


@pytest.fixture
def empty_database(services: Services) -> Iterator[str]:
    """The URL of a database without a table; what `engine()` and `settings()` give is of it."""
    name = f"test_{uuid4().hex}"
    with _admin(services) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    _use(_url(services, name))
    yield _url(services, name)
    engines.engine().dispose()
    with _admin(services) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(migrated: str) -> Iterator[str]:
    """
    The URL of a migrated database without a job; what `engine()` and `settings()` give is of it.

    Emptied and not made anew: making and dropping one takes ten times as long.
    """
    with psycopg.connect(migrated, autocommit=True) as admin:
        admin.execute(_END_OTHERS)
        admin.execute(EMPTY)
    _use(migrated)
    yield migrated
    engines.engine().dispose()


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> Rung:
    """The bells, noted instead of rung."""
    bells = Rung()
    monkeypatch.setattr("tasks.base.ring", bells.ring)
    return bells


@pytest.fixture
def world(database: str, rung: Rung) -> World:
    """A database with one account, and what a web app and crawlers do to it; its bells are only noted."""
    world = World(rung)
    world.account("acc")
    return world


@pytest.fixture
def broker(services: Services) -> Iterator[str]:
    """The URL of an empty Redis."""
    import redis  # noqa: PLC0415

    with redis.Redis.from_url(services.broker_url) as client:
        client.flushall()
        yield services.broker_url
        client.flushall()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run the command in this process, with the settings of the moment."""
    from console.cli.ending import ended  # noqa: PLC0415 - after the environment is set
    from console.main import crawlyard  # noqa: PLC0415

    def run(*arguments: str) -> Said:
        settings.cache_clear()
        capsys.readouterr()
        code = ended(lambda: crawlyard(list(arguments), prog_name="crawlyard", standalone_mode=False))
        return Said(code, *capsys.readouterr())

    yield run
    settings.cache_clear()


def _use(url: str) -> None:
    os.environ["DATABASE_URL"] = url
    settings.cache_clear()
    engines.engine.cache_clear()


def _url(services: Services, name: str) -> str:
    return services.database_url.rsplit("/", 1)[0] + "/" + name


def _admin(services: Services) -> psycopg.Connection:
    return psycopg.connect(services.database_url, autocommit=True)
