"""What a session reads and waits for is ours, whatever the database, the role and the environment set."""

from collections.abc import Callable, Iterator
from datetime import UTC, timedelta

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from persistence.db import session
from persistence.db.engine import engine
from persistence.db.snapshot import snapshot
from persistence.events.cursor import NOW
from persistence.events.subscription import Subscription
from persistence.exceptions import UnsuitableDatabaseError
from persistence.messages.rejected_queries import RejectedFilter, read_rejected
from persistence.migrations.head import SchemaError, check_head
from persistence.migrations.run import migrate
from persistence.sanitize.alterations import alteration_of
from persistence.settings import settings
from support.command import Run
from support.engines import forget_engine
from support.gateway.feeds import followed
from support.worlds.world import World
from tasks.runtime import rejection

FOREIGN = {
    "DateStyle": "German, DMY",
    "TimeZone": "Asia/Kolkata",
    "IntervalStyle": "sql_standard",
    "standard_conforming_strings": "off",
    "client_encoding": "LATIN1",
    "default_transaction_isolation": "serializable",
    "statement_timeout": "3s",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "7s",
    "idle_session_timeout": "3s",
    "array_nulls": "off",
}

OURS = {
    "DateStyle": "ISO, MDY",
    "TimeZone": "UTC",
    "IntervalStyle": "postgres",
    "standard_conforming_strings": "on",
    "client_encoding": "UTF8",
    "transaction_isolation": "read committed",
    "statement_timeout": "30s",
    "lock_timeout": "500ms",
    "array_nulls": "on",
}


@pytest.fixture
def foreign(world: World, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world whose database, and whose environment, set everything otherwise."""
    name = Identifier(database.rpartition("/")[2])
    with psycopg.connect(database, autocommit=True) as admin:
        # Its sessions of then keep what they have; the admin's own must not be slowed down in the end.
        for setting, value in FOREIGN.items():
            admin.execute(SQL("ALTER DATABASE {} SET {} TO {}").format(name, Identifier(setting), value))
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
        monkeypatch.setenv("PGDATESTYLE", "German")
        monkeypatch.setenv("PGTZ", "Asia/Kolkata")
        forget_engine()
        yield world
        forget_engine()
        for setting in FOREIGN:
            admin.execute(SQL("ALTER DATABASE {} RESET {}").format(name, Identifier(setting)))


def test_a_unit_sets_all_that_it_reads_by(foreign: World) -> None:
    """Formats, isolation level and limits are ours, and so a unit works."""
    assert {name: foreign.scalar(f"SHOW {name}") for name in OURS} == OURS
    assert foreign.scalar("SHOW idle_in_transaction_session_timeout") != "7s"
    (job,) = foreign.jobs(1)
    assert foreign.scalar(f"SELECT created_at FROM job WHERE id = '{job}'").tzinfo is not None
    assert foreign.scalar("SELECT interval '-1 day 02:00'") == timedelta(days=-1, hours=2)
    assert foreign.scalar("SELECT 'é→'") == "é→"
    assert foreign.scalar("SELECT '{NULL}'::text[]") == [None]


def test_a_gateway_sets_the_same(foreign: World) -> None:
    """Also without a transaction of its own."""
    with followed() as gateway:
        found = {name: gateway.run(gateway.session.rows(f"SHOW {name}")) for name in OURS}
    assert {name: value for name, ((value,),) in found.items()} == OURS


@pytest.mark.unpooled("a pooler ends idle sessions itself")
def test_idle_sessions_are_not_ended(foreign: World) -> None:
    """Those of the pool, and those of their own, stay open."""
    assert foreign.scalar("SHOW idle_session_timeout") == "0"
    with session.connect(settings().session_url) as other:
        assert other.execute("SHOW idle_session_timeout").fetchone() == ("0",)


@pytest.mark.unpooled("PgBouncer refuses startup options")
def test_a_transaction_has_no_limit_beside_ours(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL 17 can limit transactions, and a migration or a clean-up of ours may take longer."""
    with psycopg.connect(database) as admin:
        if admin.info.server_version < 170_000:
            pytest.skip("PostgreSQL has no transaction_timeout before 17")
    monkeypatch.setenv("PGOPTIONS", "-c transaction_timeout=100ms")
    forget_engine()
    with engine().connect() as connection:
        assert connection.exec_driver_sql("SHOW transaction_timeout").scalar_one() == "0"


def test_a_snapshot_and_a_migration_have_limits_of_their_own(foreign: World) -> None:
    """A snapshot's timeout replaces the setting's; a migration may take as long as it needs."""
    with snapshot(timedelta(seconds=5)) as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "5s"
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar_one() == "repeatable read"
        assert connection.exec_driver_sql("SELECT now()").scalar_one().tzinfo == UTC
    migrate()


def test_a_subscription_sets_the_same(foreign: World) -> None:
    """Its connection is not the engine's."""
    with Subscription(NOW, within=timedelta(seconds=0.1)) as subscription:
        subscription._connect()
        connection = subscription._connection
        assert connection is not None
        found = {name: connection.execute(f"SHOW {name}").fetchone() for name in OURS}
    # A statement of its own has no isolation level to lose.
    expected = {name: (value,) for name, value in OURS.items()} | {"transaction_isolation": ("serializable",)}
    assert found == expected


def test_a_silent_network_ends_a_connection(database: str) -> None:
    """Both kinds of connection have the timeouts of TCP; the pools without processes have no other."""
    with engine().connect() as connection, session.connect(settings().session_url) as other:
        driver = connection.connection.driver_connection
        assert driver is not None
        for parameters in (driver.info.get_parameters(), other.info.get_parameters()):
            assert parameters["tcp_user_timeout"] == "15000"
            assert parameters["keepalives_idle"] == "15"


@pytest.fixture
def encoded(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Make a database in another encoding, which the settings then name; returns its URL."""
    name = Identifier(f"encoded_{empty_database.rpartition('/')[2]}")
    with psycopg.connect(empty_database, autocommit=True) as admin:

        def make(encoding: str) -> str:
            create = SQL("CREATE DATABASE {} ENCODING {} LOCALE 'C' TEMPLATE template0")
            admin.execute(create.format(name, encoding))
            url = empty_database.rpartition("/")[0] + "/" + name.as_string().strip('"')
            monkeypatch.setenv("DATABASE_URL", url)
            monkeypatch.setenv("CRAWLYARD_DIRECT_DATABASE_URL", url)
            settings.cache_clear()
            forget_engine()
            return url

        yield make
        forget_engine()
        admin.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_another_encoding_is_refused_in_one_line(
    encoding: str, encoded: Callable[[str], str], run: Run
) -> None:
    """`migrate`, the start of a worker, the doctor and a subscription all say what is wrong."""
    url = encoded(encoding)
    output = run("migrate")
    assert output.code != 0
    assert output.err.count("\n") == 1
    assert f"encoding is {encoding}, and Crawlyard needs UTF8" in output.err
    with pytest.raises(UnsuitableDatabaseError):
        check_head()
    with pytest.raises(UnsuitableDatabaseError):
        session.connect(url)
    faults = [f for f in run("doctor", "--json").json["findings"] if f["about"] == "database"]
    assert [f["level"] for f in faults] == ["fault"]
    assert encoding in faults[0]["detail"]


def test_a_rejection_that_the_database_refuses_is_stored_escaped(
    encoded: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message would otherwise come back for ever. What was escaped is not replayed as it is."""
    monkeypatch.setattr(session, "ENCODING", "LATIN1")
    encoded("LATIN1")
    migrate()

    for _ in range(2):  # a redelivery stores nothing
        rejection.keep(task="t→", payload={"title": "a → b"}, reason="failed", detail="d→", message_id="m→")

    (row,) = read_rejected(RejectedFilter(), limit=9)
    assert (row.task, row.detail, row.message_id) == (r"t\u2192", r"d\u2192", r"m\u2192")
    assert row.payload == {"escaped": r'{"title": "a \u2192 b"}'}
    assert alteration_of(row.payload) == "the database refused it, and it was escaped"


def test_tables_in_two_schemas_are_refused_and_a_hidden_one_is_told(
    empty_database: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """search_path is the operator's: one that mixes two installations ends the start, a second table is a warning."""
    migrate()
    check_head()

    def found() -> dict[str, str]:
        return {f["about"]: f["level"] for f in run("doctor", "--json").json["findings"]}

    assert (found()["search_path"], found()["session"]) == ("ok", "ok")
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute("CREATE SCHEMA app")
        admin.execute("CREATE TABLE app.job (LIKE public.job INCLUDING ALL)")
        monkeypatch.setenv("DATABASE_URL", f"{empty_database}?options=-csearch_path%3Dapp,public")
        forget_engine()
        assert found()["search_path"] == "warning"
        check_head()
        admin.execute("CREATE TABLE app.job_queue (LIKE public.job_queue)")
        assert found()["search_path"] == "fault"
        with pytest.raises(SchemaError, match="in several schemas: app, public"):
            check_head()
