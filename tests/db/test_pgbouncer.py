"""Crawlyard works through a PgBouncer in transaction mode with fewer server connections than clients."""

import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import text

from console.demo import play
from console.embedded.servers import Services, embedded_services
from persistence.events.cursor import BEGINNING, NOW
from persistence.events.subscription import Subscription
from persistence.exceptions import DatabaseLost
from persistence.migrations.run import migrate
from persistence.settings import settings
from support import poolers
from support.command import CommandOutput, Run
from support.engines import forget_engine
from support.gateway.feeds import followed
from support.poolers import Pooler, pooler
from support.processes.workers import wait_until
from support.worlds.older_databases import WEB_APP
from support.worlds.readers import append, named
from support.worlds.world import World

CONNECTIONS = 2

pytestmark = pytest.mark.skipif(
    poolers.installed() is None, reason="PgBouncer is not installed (Debian: apt-get install pgbouncer)"
)


@pytest.fixture
def between(services: Services, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pooler]:
    """A pooler with two server connections and a short timeout, to which the settings lead."""
    program = poolers.installed()
    assert program is not None
    with pooler(program, services.database_url, CONNECTIONS, wait_s=1) as between:
        monkeypatch.delenv("CRAWLYARD_DIRECT_DATABASE_URL", raising=False)
        monkeypatch.setenv("DATABASE_URL", between.url.rpartition("/")[0] + "/migrated")
        forget_engine()
        world.reload_settings()
        yield between
        forget_engine()


def all_connections_used() -> ExitStack:
    """Open a transaction on every server connection of the pooler."""
    transactions = ExitStack()
    for _ in range(CONNECTIONS):
        connection = transactions.enter_context(psycopg.connect(settings().psycopg_url))
        connection.execute("SELECT 1")
    return transactions


def test_a_full_pool_counts_as_a_lost_database(between: Pooler, world: World) -> None:
    """The error carries the pooler's own reason, and later units succeed."""
    with (
        all_connections_used(),
        pytest.raises(DatabaseLost, match=r"08P01\): query_wait_timeout"),
        world.unit(),
    ):
        pass
    world.jobs(1)


def test_a_gateway_reads_its_orders(between: Pooler, world: World) -> None:
    """With our limits, which it does not leave in the session of the pooler."""
    crawler = world.crawler(capacity=2)
    world.jobs(2)
    read = "SELECT current_setting('statement_timeout')"
    with followed(crawler.id) as gateway:
        world.assign()
        assert sorted(gateway.look()) == [("handed_over", crawler.id, order) for order in crawler.orders()]
        assert gateway.run(gateway.session.rows(read)) == [("30s",)]

        with psycopg.connect(settings().psycopg_url, autocommit=True) as other:
            left = {other.execute(read).fetchone() for _ in range(5)}
    assert left == {("0",)}


def test_an_unreachable_pooler_counts_as_a_lost_database(between: Pooler, world: World) -> None:
    """The pooler is killed with our sessions in it, and restarted."""
    world.jobs(1)
    between.stop("kill")
    for _ in range(2):
        with pytest.raises(DatabaseLost), world.unit():
            pass
    between.start()
    world.jobs(1)


def test_a_session_ended_before_its_commit_counts_as_a_lost_database(
    between: Pooler, world: World, database: str
) -> None:
    """Server and pooler both report it, which are two answers to one COMMIT. The unit wrote nothing."""
    with pytest.raises(DatabaseLost), world.unit() as uow:
        session = uow.accounts._session
        session.execute(text("INSERT INTO account (id) VALUES ('nobody')"))
        backend = session.scalar(text("SELECT pg_backend_pid()"))
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
        uow.commit()
    assert world.scalar("SELECT count(*) FROM account WHERE id = 'nobody'") == 0


def test_more_units_than_server_connections_take_turns(between: Pooler, world: World) -> None:
    """Eight threads share two server connections; timeouts apply to their own transactions only."""
    done: list[timedelta] = []

    def work() -> None:
        for _ in range(5):
            with world.unit() as uow:
                began = uow.now()
                uow.commit()
            done.append(world.now() - began)

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 40
    with psycopg.connect(settings().psycopg_url) as other:
        assert other.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_the_schema_of_the_url_holds_through_a_pooler(
    between: Pooler, world: World, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Units, a migration and a subscriber look there, on every session; another client keeps its own search_path."""
    with psycopg.connect(empty_database) as admin:
        admin.execute("CREATE SCHEMA app")
        admin.execute("SET search_path TO app")
        admin.execute(WEB_APP)
    monkeypatch.setenv("DATABASE_URL", f"{between.url_of(empty_database)}?schema=app")
    world.reload_settings()
    forget_engine()

    migrate()
    world.jobs(1)
    with ExitStack() as units:
        for unit in [units.enter_context(world.unit()) for _ in range(CONNECTIONS)]:
            assert unit.accounts._session.scalar(text("SELECT count(*) FROM crawlyard_version")) == 1
    with Subscription(BEGINNING) as subscription:
        assert next(iter(subscription.so_far())).type == "job_created"
    with psycopg.connect(settings().psycopg_url) as other:
        assert other.execute("SHOW search_path").fetchone() == ('"$user", public',)


def test_formats_are_ours_through_a_pooler_and_stay_the_others_own(
    between: Pooler, world: World, database: str
) -> None:
    """Units read times on every session that they are given; another client keeps what the database sets."""
    foreign = {"DateStyle": "German, DMY", "IntervalStyle": "sql_standard", "TimeZone": "Asia/Kolkata"}
    name = Identifier(database.rpartition("/")[2])
    with psycopg.connect(database, autocommit=True) as admin:
        for setting, value in foreign.items():
            admin.execute(SQL("ALTER DATABASE {} SET {} TO {}").format(name, Identifier(setting), value))
        try:
            between.stop("kill")
            between.start()
            forget_engine()
            with ExitStack() as units:
                for unit in [units.enter_context(world.unit()) for _ in range(CONNECTIONS)]:
                    session = unit.accounts._session
                    assert unit.now().utcoffset() == timedelta(0)
                    assert session.scalar(text("SELECT interval '-1 day 02:00'")) == timedelta(-1, hours=2)
            for _ in range(CONNECTIONS):
                with psycopg.connect(settings().psycopg_url) as other:
                    found = {setting: other.execute(f"SHOW {setting}").fetchone() for setting in foreign}
                    assert found == {setting: (value,) for setting, value in foreign.items()}
        finally:
            for setting in foreign:
                admin.execute(SQL("ALTER DATABASE {} RESET {}").format(name, Identifier(setting)))


def test_no_listen_is_sent_through_a_pooler(between: Pooler, world: World, database: str) -> None:
    """Events still arrive within about a second, and no server session is left listening."""
    with Subscription(NOW, within=timedelta(seconds=20)) as subscription:
        got: list[str | None] = []
        reader = Thread(target=lambda: got.append(named(next(iter(subscription)))))
        reader.start()
        wait_until(lambda: subscription.cursor, "the first look")
        append(database, "a")
        reader.join(10)
        assert got == ["a"]
    channels = [world.rows("SELECT pg_listening_channels()") for _ in range(CONNECTIONS)]
    assert channels == [[]] * CONNECTIONS


def about(output: CommandOutput) -> dict[str, str]:
    """The levels of the doctor's findings about a pooler."""
    levels = {finding["about"]: finding["level"] for finding in output.json["findings"]}
    assert "connections to the server" not in levels
    return {name: levels[name] for name in ("pooler", "direct URL")}


def test_the_doctor_detects_a_pooler(
    between: Pooler, database: str, broker: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing or pooled direct URL is a warning; one that leads nowhere is a fault."""
    direct = "CRAWLYARD_DIRECT_DATABASE_URL"
    assert about(run("doctor", "--json")) == {"pooler": "ok", "direct URL": "warning"}
    monkeypatch.setenv(direct, database)
    assert about(run("doctor", "--json")) == {"pooler": "ok", "direct URL": "ok"}
    monkeypatch.setenv(direct, settings().psycopg_url)
    assert about(run("doctor", "--json")) == {"pooler": "ok", "direct URL": "warning"}
    monkeypatch.setenv(direct, "postgresql://me:hush-hush@127.0.0.1:9/x")
    output = run("doctor", "--json")
    assert (output.code, about(output)) == (1, {"pooler": "ok", "direct URL": "fault"})
    assert "hush-hush" not in output.out + run("doctor").out


@pytest.mark.pooled_programs
@pytest.mark.timeout(400)
def test_the_demo_runs_through_a_pooler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Worker, beat, fleet and web app share three server connections; no job is lost or done twice."""
    program = poolers.installed()
    assert program is not None
    with embedded_services() as services, pooler(program, services.database_url, 3) as between:
        led = replace(services, database_url=between.url)
        monkeypatch.setattr(play, "embedded_services", lambda: nullcontext(led))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        before = signal.getsignal(signal.SIGTERM)
        try:
            options = play.DemoOptions(60, 6, 7, 8, tmp_path / "summary.json", plain=True)
            assert play.run(options) == 0
        finally:
            signal.signal(signal.SIGTERM, before)
