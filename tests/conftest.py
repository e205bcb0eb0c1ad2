"""Real PostgreSQL and Redis for every test: one pair per test process, an empty database per test."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.sql import SQL

from console.embedded.servers import Services, embedded_services
from console.simulator.gitlab import GitLab
from persistence.origins import aliases
from persistence.schema.gitlabs import use_aliases
from persistence.settings import settings
from support import orders, poolers
from support.command import SECRET, CommandOutput, Run, Sql
from support.engines import Admin, await_returns, close_connections, forget_engine, kept_sessions
from support.processes import forks
from support.processes.programs import restore_default_signals
from support.processes.workers import free_port
from support.servers import Given, copy_migrated, given
from support.worlds.busy import make_busy
from support.worlds.tokens import Tokens
from support.worlds.world import EMPTY, FRESH, Published, World
from tasks.worker import transport

# Without this, a test that uses Redis before the app is imported would leave kombu with its own transport.
transport.register()

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
    WITH ended AS (
        SELECT pid, CASE WHEN pid <> ALL (%s) OR state <> 'idle' THEN pg_terminate_backend(pid, 5000) END AS is_ended
          FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    )
    SELECT pid FROM ended WHERE is_ended IS NULL
"""
"""Ends other sessions in a database, but for some that are idle, and returns those."""


def pytest_configure() -> None:
    """In the process that starts the tests, and in each that runs them."""
    restore_default_signals()
    forks.choose_socket_folder()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: two processes per CPU, since tests often wait for real programs."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 2 * cpus


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests that touch the database, for `-m database`."""
    if {"migrated", "empty_database"} & set(getattr(item, "fixturenames", ())):
        item.add_marker("database")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Start the long tests first, so that no process is busy with one when all others have ended.

    With a pooler, skip the tests that cannot work through one; each states its reason. Without, skip the programs that
    need one.
    """
    for item in items:
        if poolers.is_asked_for():
            if marker := item.get_closest_marker("unpooled"):
                item.add_marker(pytest.mark.skip(reason=f"not through a pooler: {marker.args[0]}"))
        elif item.get_closest_marker("pooled_programs"):
            item.add_marker(pytest.mark.skip(reason="make test-pgbouncer runs it"))
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = orders.shared_out(items, processes)


@pytest.fixture(scope="session")
def services() -> Iterator[Services | Given]:
    """
    PostgreSQL and Valkey; CRAWLYARD_TEST_POSTGRES_BIN names another PostgreSQL's programs.

    CRAWLYARD_TEST_PGBOUNCER names a PgBouncer: what is tested goes through it, the tests' own sessions do not.
    """
    if servers := given():
        os.environ.update(servers.environment() | FAST)
        yield servers
        return
    binaries = os.environ.get("CRAWLYARD_TEST_POSTGRES_BIN")
    with (
        embedded_services(
            {"fsync": "off"}, postgres_binaries=Path(binaries) if binaries else None
        ) as running,
        poolers.in_front_of(running.database_url),
    ):
        _hasten_logins(running)
        os.environ.update(running.environment() | FAST)
        yield running


@pytest.fixture(scope="session")
def migrated(services: Services | Given) -> str:
    """The URL of a database that is migrated once; `database` empties it for each test."""
    with _admin(services) as admin:
        if isinstance(services, Given):
            copy_migrated(admin, "migrated", lambda name: _migrate(_url(services, name)))
        else:
            admin.execute("CREATE DATABASE migrated")
            _migrate(_url(services, "migrated"))
    url = _url(services, "migrated")
    _use(url)
    return url


@pytest.fixture
def empty_database(services: Services | Given) -> Iterator[str]:
    """The URL of a database without tables, which `engine()` and `settings()` use."""
    name = f"test_{uuid4().hex}"
    with _admin(services) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    _use(_url(services, name))
    yield _url(services, name)
    close_connections()
    with _admin(services) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(migrated: str, admin: Admin, request: pytest.FixtureRequest) -> Iterator[str]:
    """
    The URL of a migrated database without jobs, which `engine()` and `settings()` use.

    It is emptied, because creating and dropping a database takes ten times as long. The engine of the test before is
    kept if its sessions are the only ones that are left.
    """
    is_fresh = request.node.get_closest_marker("fresh_tables")
    _set_environment(migrated)
    kept = [] if is_fresh or poolers.is_asked_for() else kept_sessions()
    left = [pid for (pid,) in admin.execute(_END_OTHERS, [kept])]
    if not kept or sorted(left) != sorted(kept):
        forget_engine()
    admin.execute(FRESH if is_fresh else EMPTY)
    yield migrated
    await_returns()


@pytest.fixture(scope="session")
def admin(migrated: str) -> Iterator[Admin]:
    """The fixtures' own session in the migrated database."""
    with closing(Admin(migrated)) as admin:
        yield admin


@pytest.fixture(scope="session")
def copy_migrated_to(services: Services | Given, admin: Admin) -> Callable[[str], str]:
    """A function that makes a migrated database of this name, and returns its URL."""

    def copy(name: str) -> str:
        forget_engine()
        admin.execute(_END_OTHERS, [[]])
        admin.close()  # no session may be in a database that is copied
        with _admin(services) as session:
            session.execute(f"CREATE DATABASE {name} TEMPLATE migrated")
        return _url(services, name)

    return copy


@pytest.fixture(scope="session")
def busy_database(services: Services, migrated: str, copy_migrated_to: Callable[[str], str]) -> Iterator[str]:
    """The URL of a database in which everything has happened once. Roll back all changes to it."""
    name, url = "busy", copy_migrated_to("busy")
    with pytest.MonkeyPatch.context() as patch, psycopg.connect(url, autocommit=True) as admin:
        patch.setenv(
            "CRAWLYARD_RETRY_DELAY", "900"
        )  # entries that back off must not become due before a test looks at them
        _use(url)
        admin.execute(EMPTY)
        published = Published()
        patch.setattr("tasks.runtime.unit.publish", published.publish)
        make_busy(World(published))
    _use(migrated)
    yield url
    with _admin(services) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Published:
    """Records messages instead of publishing them."""
    published = Published()
    monkeypatch.setattr("tasks.runtime.unit.publish", published.publish)
    return published


@pytest.fixture
def world(database: str, published: Published, monkeypatch: pytest.MonkeyPatch) -> World:
    """A database with one account, changed by a web app and crawlers. Messages are only recorded."""
    # What was read in the test before is forgotten, and no unit of a test reads more than the others.
    monkeypatch.setattr(aliases, "AGE_S", float("inf"))
    use_aliases({})
    aliases.loaded()
    world = World(published)
    world.account("acc")
    return world


@pytest.fixture
def tokens(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tokens]:
    """An account with tokens, at a GitLab where they can be refreshed."""
    with GitLab() as gitlab:
        monkeypatch.setenv("CRAWLYARD_OAUTH_PROVIDERS", gitlab.providers())
        monkeypatch.setenv("CRAWLYARD_HTTP_TIMEOUT", "1")
        world.reload_settings()
        tokens = Tokens(world, gitlab)
        tokens.authorize()
        yield tokens


@pytest.fixture
def broker(services: Services | Given) -> Iterator[str]:
    """The URL of an empty Redis."""
    import redis  # noqa: PLC0415

    with redis.Redis.from_url(services.broker_url) as client:
        client.flushall()
        yield services.broker_url
        client.flushall()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run the command in this process with the current settings."""
    from console.main import crawlyard  # noqa: PLC0415
    from console.output.exit_codes import ended  # noqa: PLC0415 - after the environment is set

    def run(*arguments: str) -> CommandOutput:
        settings.cache_clear()
        capsys.readouterr()
        code = ended(lambda: crawlyard(list(arguments), prog_name="crawlyard", standalone_mode=False))
        return CommandOutput(code, *capsys.readouterr())

    yield run
    settings.cache_clear()


def _migrate(url: str) -> None:
    from persistence.migrations.run import migrate  # noqa: PLC0415 - after the environment is set

    _use(url)
    migrate()
    close_connections()


@pytest.fixture
def sql(database: str) -> Sql:
    """Run a statement on the test's database, and commit it."""

    def execute(statement: str, *values: object) -> list[Any]:
        with psycopg.connect(database) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    return execute


@pytest.fixture
def nowhere(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a database that does not exist."""
    url = f"postgresql://me:{SECRET}@127.0.0.1:{free_port()}/x"
    monkeypatch.setenv("DATABASE_URL", url)
    forget_engine()
    yield url
    forget_engine()


def _use(url: str) -> None:
    """Make this and child processes use the database, through the pooler if there is one."""
    _set_environment(url)
    forget_engine()


_read: dict[str, object] = {}
"""The environment of the last test, and the settings that were read from it, which takes 5 ms."""


def _set_environment(url: str) -> None:
    os.environ.update(poolers.environment(url))
    now = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    is_read = settings.cache_info().currsize and settings() is _read.get("settings")
    if not is_read or now != _read["environment"]:
        settings.cache_clear()
        _read.update(environment=now, settings=settings())


def _hasten_logins(services: Services) -> None:
    """Hash the password once, not 4096 times: every test connects several times. PostgreSQL 15 cannot do this."""
    with _admin(services) as admin:
        if admin.info.server_version >= 160_000:
            admin.execute("SET scram_iterations = 1")
            admin.execute(SQL("ALTER ROLE CURRENT_USER PASSWORD {}").format(admin.info.password))


def _url(services: Services | Given, name: str) -> str:
    return services.database_url.rsplit("/", 1)[0] + "/" + name


def _admin(services: Services | Given) -> psycopg.Connection:
    return psycopg.connect(services.database_url, autocommit=True)
