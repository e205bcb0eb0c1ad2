"""In each environment of tests/support/worlds/environments.py, a start says what is wrong, the doctor what to do."""

import re
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from psycopg.sql import SQL, Identifier
from sqlalchemy import text
from structlog.testing import capture_logs

from console.commands.doctor import diagnose
from persistence.db.engine import engine
from persistence.db.sqlstate import translate_errors
from persistence.exceptions import RightsMissing, SettingsError, UnsuitableDatabaseError
from persistence.migrations.head import check_head, check_rights
from persistence.settings import settings
from support.engines import forget_engine
from support.worlds.environments import ALL, ENVIRONMENTS, SEQUENCE, Environment
from tasks.app import app
from tasks.runtime import lost_rights, stopping
from tasks.runtime.retry import run_until_done
from tasks.start.broker_rights import CONSUME, wait_for_rights
from tasks.worker import lifecycle, liveness
from tasks.worker.heartbeat_file import LivenessFile

STRANGER = "stranger"

pytestmark = pytest.mark.unpooled("a pooler knows the roles of its own file")


@pytest.fixture
def enter(
    database: str, broker: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Environment], None]]:
    """Make an environment, and let the settings lead there; all is undone at the end."""
    undo: list[str] = []
    assert app.conf.broker_url  # read before the environment changes: the app is the process's
    with psycopg.connect(database, autocommit=True) as admin, redis.Redis.from_url(broker) as server:

        def run(statement: str) -> None:
            names = {"db": Identifier(database.rpartition("/")[2]), "role": Identifier(STRANGER)}
            admin.execute(SQL(statement).format(**names))

        def make_database(encoding: str) -> str:
            undo.append("DROP DATABASE stranger WITH (FORCE)")
            run(f"CREATE DATABASE stranger ENCODING {encoding} LOCALE 'C' TEMPLATE template0")
            return f"{database.rpartition('/')[0]}/{STRANGER}"

        def enter(environment: Environment) -> None:
            undo.extend(environment.undo)
            if environment.role:
                run("CREATE ROLE {role} LOGIN PASSWORD 'stranger'")
                undo.extend(("DROP OWNED BY {role}", "DROP ROLE {role}"))
                monkeypatch.setenv("DATABASE_URL", _as_stranger(database))
            for statement in environment.database:
                run(statement)
            if environment.redis:
                server.acl_deluser(STRANGER)
                server.execute_command("ACL", "SETUSER", STRANGER, "on", f">{STRANGER}", *environment.redis)
                monkeypatch.setenv("BROKER_URL", _as_stranger(broker))
            if environment.new_database:
                monkeypatch.setenv("DATABASE_URL", make_database(environment.new_database))
            places = {"postgres": database.partition("@")[2], "redis": broker.partition("@")[2]}
            for name, value in environment.variables.items():
                monkeypatch.setenv(name, value.format(**places))
            settings.cache_clear()
            forget_engine()

        yield enter
        forget_engine()
        for statement in undo:
            run(statement)
        server.acl_deluser(STRANGER)
    settings.cache_clear()


def _as_stranger(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{STRANGER}:{STRANGER}@{host}").geturl()


class WaitsError(Exception):
    """The start waits."""


def start() -> tuple[bool, str]:
    """Do what a worker does before it takes messages; returns whether that ends it."""

    def wait(_seconds: float) -> None:
        raise WaitsError

    said: list[str] = []
    conf = SimpleNamespace(worker_enable_remote_control=True)
    try:
        lifecycle._begin(sender=SimpleNamespace(app=SimpleNamespace(conf=conf), pool_cls="prefork"))
        wait_for_rights(CONSUME, said.append, wait)
    except (SystemExit, SettingsError) as ended:
        return True, str(ended)
    except WaitsError:
        pass
    return False, "\n".join(said)


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda environment: environment.name)
def test_an_environment_is_told_at_the_start_and_by_the_doctor(
    environment: Environment, enter: Callable[[Environment], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each, which names the cause; the doctor names the remedy too."""
    enter(environment)

    ends, said = start()
    said += capsys.readouterr().err

    assert ends == environment.ends
    assert re.search(environment.start, said), said
    assert said.count("\n") <= 1
    if environment.finding is None:  # without settings nothing is examined
        with pytest.raises(SettingsError):
            diagnose()
        return
    about, level, detail, remedy = environment.finding
    (found,) = [one for one in diagnose().findings if one.about == about]
    assert found.level == level, found
    assert re.search(detail, found.detail), found
    assert re.search(remedy, found.remedy), found


def test_a_right_that_is_lost_is_waited_for(enter: Callable[[Environment], None]) -> None:
    """A unit waits for a GRANT as for a database that is away, and its message is not kept as rejected."""
    enter(next(one for one in ENVIRONMENTS if one.name == "a-table-of-ours-without-rights"))
    with (
        pytest.raises(RightsMissing, match="permission denied for table job_queue"),
        translate_errors(),
        engine().begin() as connection,
    ):
        connection.execute(text("DELETE FROM job_queue"))


def test_a_right_that_is_lost_is_named_at_once(
    enter: Callable[[Environment], None],
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By each unit that lacks it, with table, right and GRANT, and by health; a unit goes on once it may."""
    enter(Environment("worker", None, role=True, database=(ALL, SEQUENCE)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(liveness._worker, "file", LivenessFile("worker", timedelta(seconds=30)))
    (file,) = tmp_path.glob("crawlyard-*/worker-*")
    told: list[str] = []

    def unit() -> None:
        with translate_errors(), engine().begin() as connection:
            connection.execute(text("DELETE FROM job_queue"))

    def wait(_seconds: float) -> None:
        liveness.on_broker_answer()
        told.append(file.read_text().splitlines()[1])
        with psycopg.connect(database, autocommit=True) as owner:
            owner.execute("GRANT DELETE ON job_queue TO stranger")

    monkeypatch.setattr(stopping, "wait", wait)
    try:
        with psycopg.connect(database, autocommit=True) as owner:
            owner.execute("REVOKE DELETE ON job_queue FROM stranger")
        with capture_logs() as logs:
            run_until_done(unit)
        monkeypatch.setattr(lost_rights, "_VALID_S", 0.0)
        liveness.on_broker_answer()
        assert file.read_text() == "30.0"
    finally:
        liveness._end()
    missing = "The role stranger lacks DELETE on job_queue. Have their owner run: GRANT DELETE ON job_queue TO stranger"
    assert told == [missing]
    assert [(entry["event"], entry["why"]) for entry in logs] == [("rights_missing", missing)]


def test_a_right_that_is_not_looked_up_is_told_in_the_servers_words(
    enter: Callable[[Environment], None],
) -> None:
    """Such as one on a single column."""
    enter(Environment("worker", None, role=True, database=(ALL, SEQUENCE)))
    error = RightsMissing("permission denied for table job")
    assert lost_rights.describe(error) == "permission denied for table job"
    assert lost_rights.noted() == "permission denied for table job"


def test_a_reader_of_events_needs_no_rights_of_a_worker(enter: Callable[[Environment], None]) -> None:
    """`crawlyard events` and a gateway's subscription check the schema alone."""
    reading = ("GRANT SELECT ON dispatch_event, event_edge, crawlyard_version TO {role}",)
    enter(Environment("reader", None, role=True, database=reading))
    check_head()
    with pytest.raises(UnsuitableDatabaseError):
        check_rights()
