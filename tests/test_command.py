"""The `crawlyard` command: what it says when all is well, when something is broken, and when it is asked wrongly."""

import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from console.checkup.health import check_sweep
from console.checkup.urls import shown
from console.cli.contract import list_names, schema
from console.cli.screen import duration, plain
from console.main import crawlyard
from console.services.embedded import Services
from persistence import engine as engines
from persistence.settings import settings
from persistence.status import SweepClock
from support.command import Run, Said
from support.workers import free_port

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = [
    "worker",
    "beat",
    "status",
    "progress",
    "connections",
    "stats",
    "health",
    "doctor",
    "events",
    "contract",
    "errors",
    "rejected",
    "jobs",
    "migrate",
    "adopt",
    "services",
    "demo",
]
NEED_SETTINGS = ["worker", "beat", "status", "stats", "health", "doctor", "migrate", "adopt"]
SECRET = "hush-hush"
ULID = "01J8ZQ4Y5T9V3N7M2K6R8W0XCD"
NOW = "2026-05-04T03:02:01Z"


@pytest.fixture
def sql(database: str) -> Callable[..., list[Any]]:
    """Run a statement on the test's database, and commit it."""

    def execute(statement: str, *values: object) -> list[Any]:
        with psycopg.connect(database) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    return execute


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_without_settings(
    command: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--help needs neither a database nor a broker, nor their URLs."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("BROKER_URL", raising=False)

    said = run(command, "--help")

    assert (said.code, said.err) == (0, "")
    assert f"crawlyard {command}" in said.out
    assert all(
        option.help for option in crawlyard.commands[command].params if option.param_type_name == "option"
    )


def test_the_help_lists_every_command_under_a_heading(run: Run) -> None:
    """Commands stand in the order of run, look, change and set up."""
    said = run("--help")

    positions = [said.out.index(f"\n  {name} ") for name in COMMANDS]
    assert positions == sorted(positions)
    assert [heading in said.out for heading in ("Run:", "Look:", "Change:", "Set up:")] == [True] * 4
    assert sorted(crawlyard.commands) == sorted(COMMANDS)


def test_the_help_loads_nothing_heavy() -> None:
    """It is there at once, since no command's own imports have been made."""
    code = (
        "import sys; from console.main import crawlyard; crawlyard(['--help'], standalone_mode=False);"
        "print(sorted({'alembic', 'celery', 'psycopg', 'pydantic', 'redis', 'rich', 'sqlalchemy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_the_version_is_one_line(run: Run) -> None:
    """--version names the program and its version."""
    said = run("--version")
    assert (said.code, len(said.out.splitlines()), said.out.split()[0]) == (0, 1, "crawlyard")


# Wrong settings and wrong requests


WRONG = [
    ("DATABASE_URL", "", "DATABASE_URL must be set"),
    ("DATABASE_URL", f"mysql://me:{SECRET}@localhost/x", "DATABASE_URL must begin with"),
    ("BROKER_URL", f"amqp://me:{SECRET}@localhost", "BROKER_URL must begin with"),
    ("CRAWLYARD_SWEEP_INTERVAL", SECRET, "CRAWLYARD_SWEEP_INTERVAL must be a number of seconds"),
]


@pytest.mark.parametrize("command", NEED_SETTINGS)
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong[2])
def test_a_wrong_setting_is_one_line_by_its_name(
    command: str, wrong: tuple[str, str, str], services: Services, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is started: one line names the variable, its value is not shown, and the exit code is 2."""
    name, value, complaint = wrong
    monkeypatch.setenv(name, value)

    said = run(command)

    assert (said.code, said.out) == (2, "")
    assert len(said.err.splitlines()) == 1
    assert complaint in said.err
    assert SECRET not in said.err


def test_an_unknown_queue_is_a_wrong_request(database: str, run: Run) -> None:
    """A misspelt queue ends the worker before it starts."""
    said = run("worker", "--queues", "crawler,dispach")
    assert said.code == 2
    assert "there is no queue 'dispach'; there are crawler, dispatch, upkeep" in said.err


def test_ctrl_c_is_quiet(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with 130, as a shell expects, and says nothing; the prompt gets a line of its own."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("console.cli.contract.show_contract", interrupted)
    said = run("contract")
    assert (said.code, said.out, said.err.strip()) == (130, "", "")


def test_a_broken_pipe_is_quiet() -> None:
    """A reader who has seen enough, such as `head`, causes no complaint."""
    reading, writing = os.pipe()
    os.close(reading)
    found = subprocess.run(
        [sys.executable, "-m", "console.main", "contract"],
        cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (found.returncode, found.stderr) == (1, b"")


# Contract

SAMPLES: dict[str, dict[str, Any]] = {
    "jobs.submit": {
        "orders": [
            {
                "account_id": "a", "provider": "gitlab-cloud", "command": "issues", "gitlab_host": "gitlab.example",
                "namespace_path": "group/project", "web_app_job_id": ULID, "tags": ["x"], "metadata": {"a": [1]},
            }
        ]
    },
    "jobs.enqueue": {"job_ids": [ULID]},
    "jobs.cancel": {"account_id": "a", "reason": "no longer"},
    "connections.register": {"connection_id": ULID, "crawler_id": "one", "capacity": 3},
    "connections.heartbeat": {"beats": [{"connection_id": ULID, "active_jobs": [ULID], "system_status": "idle"}]},
    "connections.disconnect": {"connection_id": ULID, "reason": "deploy"},
    "connections.expire_dead": {"as_of": NOW},
    "crawler.frames": {
        "frames": [{"connection_id": ULID, "frame": {"type": "job_request", "timestamp": NOW, "data": {}}}]
    },
    "failures.log": {"errors": [{"job_id": ULID, "error_type": "Odd", "error_message": "what"}]},
    "frame": {
        "type": "job_progress", "timestamp": NOW, "jobId": ULID,
        "data": {"stage": "fetching", "entityType": "issue", "processed": 5, "itemCounts": {"issues": 5}, "new": 1},
    },
}  # fmt: skip


def test_every_schema_is_valid(run: Run) -> None:
    """All tasks and the frame have a schema of the 2020-12 dialect, named by version."""
    said = run("contract")

    assert list(said.json["schemas"]) == list_names()
    for name, found in said.json["schemas"].items():
        Draft202012Validator.check_schema(found)
        assert found["$id"] == f"urn:crawlyard:{said.json['version']}:{name}"


@pytest.mark.parametrize("name", SAMPLES)
def test_a_schema_takes_what_its_task_takes(name: str) -> None:
    """What a producer may send is valid."""
    Draft202012Validator(schema(name)).validate(SAMPLES[name])


@pytest.mark.parametrize("name", sorted(set(list_names()) - {"frame"}))
def test_a_schema_refuses_unknown_fields(name: str) -> None:
    """A misspelt argument is seen before it is sent."""
    with pytest.raises(ValidationError, match="access_token"):
        Draft202012Validator(schema(name)).validate(SAMPLES.get(name, {}) | {"access_token": "x"})


def test_a_schema_refuses_what_is_too_large() -> None:
    """Batches are bounded in the schema as they are by the task."""
    with pytest.raises(ValidationError, match="too long"):
        Draft202012Validator(schema("jobs.enqueue")).validate({"job_ids": ["x"] * 10_001})


def test_schemas_are_written_as_files(run: Run, tmp_path: Path) -> None:
    """With --out every schema is a file of its own, by the task's name."""
    assert run("contract", "--out", str(tmp_path / "new")).code == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(
        f"{n}.json" for n in list_names()
    )
    assert json.loads((tmp_path / "new" / "frame.json").read_text()) == schema("frame")


def test_one_task_is_one_schema(run: Run) -> None:
    """A task by name gives its schema alone; one that is none is a wrong request."""
    assert run("contract", "jobs.submit").json == schema("jobs.submit")
    assert run("contract", "jobs.sumbit").code == 2


# Migrate and adopt


def test_migrate_says_from_where_to_where(empty_database: str, run: Run) -> None:
    """The first time from nothing, then never again."""
    assert run("migrate", "--json").json["from"] is None
    assert run("migrate").out == "The database is up to date, at revision 0002.\n"


def test_a_newer_schema_is_left_to_a_newer_version(empty_database: str, run: Run) -> None:
    """What a later version made is neither worked with nor changed."""
    run("migrate")
    with psycopg.connect(empty_database) as connection:
        connection.execute("UPDATE crawlyard_version SET version_num = '9999'")
    for command in ("migrate", "adopt"):
        said = run(command)
        assert (said.code, len(said.err.splitlines())) == (2, 1)
        assert "newer Crawlyard" in said.err
    assert run("health").code == 1


OLDER = """
    INSERT INTO account (id) VALUES ('a');
    INSERT INTO job (id, "accountId", command, full_path, status, created_at)
    SELECT status || n, 'a', 'issues', status || n, status, now() - interval '1 day'
      FROM unnest(ARRAY['queued', 'paused', 'finished']) status, generate_series(1, 2) n;
    INSERT INTO job_queue (id, web_app_job_id, account_id, held)
    SELECT id, id, 'a', true FROM job WHERE status <> 'finished';
    INSERT INTO job (id, "accountId", command, full_path) VALUES ('ours', 'a', 'issues', 'ours');
    INSERT INTO job_queue (id, web_app_job_id, account_id, held) VALUES ('ours', 'ours', 'a', true);
    UPDATE adoption SET adopted_from = now() - interval '1 hour';
"""
"""Six older jobs and four held entries; a seventh job is ours, and held for a reason of its own."""


def test_adopt_changes_nothing_unasked(sql: Callable[..., list[Any]], run: Run) -> None:
    """Without --yes and without a terminal it only says what it would release."""
    sql(OLDER)

    said = run("adopt")

    assert said.code == 0
    assert said.out.splitlines()[1:] == [
        "  finished                               2",
        "  paused                                 2",
        "  queued                                 2",
        "Still to be crawled: 2 jobs.",
        "Held in the queue of an older component: 2 entries.",
        "Nothing was changed; --yes releases them.",
    ]
    assert sql("SELECT count(*) FROM adoption WHERE adopted_from IS NOT NULL") == [(1,)]
    assert sql("SELECT count(*) FROM job_queue WHERE held") == [(5,)]


def test_adopt_releases_what_an_older_component_had_queued(sql: Callable[..., list[Any]], run: Run) -> None:
    """Held entries of queued jobs are let go; what the web app paused, and what is ours, is not."""
    sql(OLDER)

    said = run("adopt", "--yes", "--json")

    assert said.json["adopted"] is True
    assert said.json["left_alone"]["held_entries"] == 2
    assert sql("SELECT adopted_from FROM adoption") == [(None,)]
    assert sql("SELECT id FROM job_queue WHERE held ORDER BY id") == [("ours",), ("paused1",), ("paused2",)]
    assert run("adopt").out == "There is nothing to adopt: all jobs are ours.\n"


def test_migrate_says_what_is_left_alone(sql: Callable[..., list[Any]], run: Run) -> None:
    """Until it is adopted, every migrate counts it again."""
    sql(OLDER)
    assert run("migrate").out.endswith("They are left alone until `crawlyard adopt`.\n")
    assert run("migrate", "--json").json["left_alone"]["jobs"] == {"finished": 2, "paused": 2, "queued": 2}


# Status

STANDING = """
    INSERT INTO account (id) VALUES ('a');
    INSERT INTO job (id, "accountId", command, full_path) SELECT n::text, 'a', 'issues', n FROM generate_series(1, 9) n;
    INSERT INTO job_queue (id, web_app_job_id, account_id, status, ready, held, scheduled_at, settled_at)
    SELECT n::text, n::text, 'a', CASE n WHEN 1 THEN 'completed' WHEN 2 THEN 'processing' ELSE 'pending' END,
           n <> 3, n = 4, now() - make_interval(mins => n), CASE n WHEN 1 THEN now() END FROM generate_series(1, 9) n;
    INSERT INTO job_assignment_mapping (id, web_app_job_id, crawler_job_id, status) VALUES ('x', '2', 'x', 'running');
    INSERT INTO socket_connection (id, last_heartbeat, goodbye_at, is_active, closed_at)
    VALUES ('live', now(), NULL, true, NULL), ('leaving', now(), now(), true, NULL),
           ('silent', now() - interval '1 day', NULL, true, NULL), ('closed', now(), NULL, false, now());
    INSERT INTO job_error_log (id, job_id, error_type, error_message, timestamp)
    VALUES ('1', '1', 'Stalled', '', now()), ('2', '1', E'\\x1b[31mevil', '', now()),
           ('3', '1', E'\\x1b[31mevil', '', now()), ('4', '1', 'Stalled', '', now() - interval '2 hours'),
           ('5', '1', 'Stalled', '', now() - interval '2 hours');
    INSERT INTO rejected_message (id, reason, detail) VALUES ('1', 'invalid', '');
    INSERT INTO account_lane (account_id, held_at, held_reason) VALUES ('a', now(), 'paused');
    UPDATE liveness_state SET last_sweep_at = now(), grace_until = now() + interval '1 minute';
"""


def test_status_counts_everything(sql: Callable[..., list[Any]], broker: str, run: Run) -> None:
    """Each figure is what was put there."""
    sql(STANDING)
    with redis.Redis.from_url(broker) as client:
        client.lpush("dispatch", "x", "y")
        client.lpush("dispatch\x06\x163", "with a priority")
        client.zadd("unacked_index", {"tag": 1})

    said = run("status", "--json")
    database = said.json["database"]

    assert said.code == 0
    assert database["queue"].pop("oldest_ready") >= 9 * 60
    assert database["queue"] == {
        "ready": 5, "backed_off": 1, "held": 1, "processing": 1, "completed": 1, "failed": 0
    }  # fmt: skip
    assert database["connections"] == {
        "active": 3, "silent": 1, "said_goodbye": 1, "closed_last_hour": 1, "seats": 10
    }  # fmt: skip
    assert database["assignments"] == {"assigned": 0, "running": 1}
    assert list(database["failures_last_hour"].items()) == [("\x1b[31mevil", 2), ("Stalled", 1)]
    assert database["rejected_last_hour"] == {"invalid": 1}
    assert database["held_accounts"] == {"paused": 1}
    assert database["jobs"] == {"queued": 9}
    assert 0 <= database["sweep"]["age"] < 60 > database["sweep"]["grace_left"] > 0
    assert said.json["broker"] == {"queues": {"crawler": 0, "dispatch": 3, "upkeep": 0}, "unacked": 1}


def test_status_lets_no_crawler_write_on_the_terminal(
    sql: Callable[..., list[Any]], broker: str, run: Run
) -> None:
    """Control codes in a crawler's own words are shown as dots."""
    sql(STANDING)
    said = run("status")
    assert said.code == 0
    assert "·[31mevil" in said.out
    assert "\x1b" not in said.out


def test_status_shows_the_database_though_the_broker_is_away(
    database: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be seen is seen; what cannot is said, and is the exit code."""
    monkeypatch.setenv("BROKER_URL", f"redis://:{SECRET}@127.0.0.1:{free_port()}/0")
    said = run("status")
    assert said.code == 1
    assert "The broker cannot be used" in said.out
    assert "oldest ready" in said.out
    assert SECRET not in said.out


def test_status_shows_the_broker_though_the_database_is_away(
    services: Services, run: Run, nowhere: str
) -> None:
    """The other way round as well."""
    said = run("status", "--json")
    assert (said.code, said.json["database"]) == (1, None)
    assert "Connection refused" in said.json["database_error"]
    assert said.json["broker"]["unacked"] == 0
    assert SECRET not in said.out


class Terminal(io.StringIO):
    """Takes what is written to it for a screen."""

    def isatty(self) -> bool:
        """It is one."""
        return True


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_are_for_terminals_that_want_them(
    no_color: str, database: str, broker: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal gets colours unless NO_COLOR is set."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm-256color")

    run("status")

    assert "never" in terminal.getvalue()
    assert ("\x1b[31mnever" in terminal.getvalue()) == (not no_color)


# Health


@pytest.fixture
def nowhere(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database that is not there."""
    from persistence.engine import engine  # noqa: PLC0415

    url = f"postgresql://me:{SECRET}@127.0.0.1:{free_port()}/x"
    monkeypatch.setenv("DATABASE_URL", url)
    engine.cache_clear()
    yield url
    engine.cache_clear()


def test_health_is_well_after_a_sweep(sql: Callable[..., list[Any]], broker: str, run: Run) -> None:
    """Database, sweep and broker: each a line, and exit code 0."""
    sql("UPDATE liveness_state SET last_sweep_at = now() - interval '59 s'")
    said = run("health")
    assert said.code == 0
    assert [line.split(":")[0] for line in said.out.splitlines()] == [
        "ok   database",
        "ok   last sweep",
        "ok   broker",
    ]
    assert run("health", "--json").json["healthy"] is True


@pytest.mark.parametrize("last", ["now() - interval '61 s'", "now() + interval '61 s'"])
def test_health_fails_without_a_sweep_in_a_minute(
    last: str, sql: Callable[..., list[Any]], broker: str, run: Run
) -> None:
    """A sweep of long ago, or of a time to come, says that nobody sweeps."""
    sql(f"UPDATE liveness_state SET last_sweep_at = {last}")
    said = run("health")
    assert said.code == 1
    assert "FAIL last sweep" in said.out


def test_health_gives_a_new_installation_a_minute_to_sweep(services: Services) -> None:
    """Where no sweep was ever recorded, the age of the database's server decides."""
    settings.cache_clear()
    young, old = (SweepClock(None, None, None, timedelta(seconds=up)) for up in (60, 61))
    assert check_sweep(young).healthy
    assert not check_sweep(old).healthy


def test_health_fails_before_the_first_migration(empty_database: str, broker: str, run: Run) -> None:
    """A database without our tables is said to be one."""
    said = run("health")
    assert said.code == 1
    assert "FAIL database: The database was never migrated: run `crawlyard migrate`." in said.out


def test_health_fails_without_servers(run: Run, nowhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are said to be away, without their passwords."""
    monkeypatch.setenv("BROKER_URL", f"redis://:{SECRET}@127.0.0.1:{free_port()}/0")
    said = run("health")
    assert said.code == 1
    assert said.out.count("FAIL") == 2
    assert SECRET not in said.out


def test_health_ends_within_seconds_though_the_servers_are_silent(
    silent_port: int, nowhere: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen servers are the worst case: they take a connection and never answer."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:{SECRET}@127.0.0.1:{silent_port}/x")
    monkeypatch.setenv("BROKER_URL", f"redis://:{SECRET}@127.0.0.1:{silent_port}/0")

    started = time.monotonic()
    said = run("health")

    assert time.monotonic() - started < 3
    assert said.code == 1
    assert said.out.splitlines() == [
        "FAIL database: The database has not answered in time.",
        "FAIL broker: The broker cannot be used: Timeout reading from socket",
    ]


# Doctor


def findings(said: Said) -> dict[str, str]:
    """The levels by what was looked at."""
    return {finding["about"]: finding["level"] for finding in said.json["findings"]}


def test_the_doctor_finds_nothing_where_all_is_well(database: str, broker: str, run: Run) -> None:
    """Exit code 0; the tests' own server alone does without fsync, which is a warning."""
    said = run("doctor", "--json")
    assert said.code == 0
    assert {about for about, level in findings(said).items() if level != "ok"} == {"fsync"}
    assert {"python", "celery", "kombu", "redis", "sqlalchemy", "psycopg", "crawlyard"} == set(
        said.json["versions"]
    )


def test_the_doctor_shows_every_setting_and_no_password(database: str, broker: str, run: Run) -> None:
    """Each with its value and where it comes from."""
    said = run("doctor")
    values = {one["name"]: (one["value"], one["source"]) for one in run("doctor", "--json").json["settings"]}
    assert values["CRAWLYARD_SWEEP_INTERVAL"] == ("1 s", "environment")
    assert values["CRAWLYARD_ASSIGN_INTERVAL"] == ("5 s", "default")
    for url in (database, broker):
        password = url.partition("@")[0].rpartition(":")[2]
        assert password not in said.out
        assert password not in str(values)


def test_the_doctor_shows_of_providers_their_hosts_alone(
    database: str, broker: str, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where they stand in a file, whose variable is no misspelt one."""
    client = {"client_id": "crawlyard", "client_secret": SECRET}
    (tmp_path / "providers").write_text(json.dumps({"https://gitlab.example.org": client}))
    monkeypatch.setenv("CRAWLYARD_OAUTH_PROVIDERS_FILE", str(tmp_path / "providers"))
    said = run("doctor", "--json")
    values = {one["name"]: (one["value"], one["source"]) for one in said.json["settings"]}
    assert values["CRAWLYARD_OAUTH_PROVIDERS"] == ("https://gitlab.example.org", "file")
    assert "the environment" not in findings(said)
    assert SECRET not in said.out + said.err + run("doctor").out


def test_the_doctor_wants_a_broker_that_forgets_nothing(database: str, broker: str, run: Run) -> None:
    """Any policy of eviction is a fault."""
    with redis.Redis.from_url(broker) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        said = run("doctor", "--json")
        client.config_set("maxmemory-policy", "noeviction")
    assert said.code == 1
    assert findings(said)["maxmemory-policy"] == "fault"


UNFIT = [
    ("CRAWLYARD_LOCK_TIMEOUT", "1", "locks", "fault"),
    ("CRAWLYARD_POOL_SIZE", "100", "connections to the server", "warning"),
    ("CRAWLYARD_SWEEP_INTERVALL", "1", "the environment", "warning"),
]


@pytest.mark.parametrize("unfit", UNFIT, ids=lambda unfit: unfit[0])
def test_the_doctor_sees_settings_that_do_not_fit(
    unfit: tuple[str, str, str, str], database: str, broker: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a single setting's check cannot see is seen here."""
    name, value, about, level = unfit
    monkeypatch.setenv(name, value)
    said = run("doctor", "--json")
    assert findings(said)[about] == level
    assert said.code == (1 if level == "fault" else 0)


def test_the_doctor_wants_a_migrated_database(empty_database: str, broker: str, run: Run) -> None:
    """The rest of the server is looked at all the same."""
    said = run("doctor", "--json")
    assert (said.code, findings(said)["schema"], findings(said)["PostgreSQL"]) == (1, "fault", "ok")


def test_the_doctor_names_the_rights_that_are_missing(
    sql: Callable[..., list[Any]], database: str, broker: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clean-up could not delete a job, for example."""
    sql("CREATE ROLE poor LOGIN PASSWORD 'poor'")
    try:
        sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO poor")
        sql('GRANT INSERT, UPDATE ON job, area, area_authorization, job_area, account, "user" TO poor')
        monkeypatch.setenv("DATABASE_URL", re.sub("//[^@]*@", "//poor:poor@", database))
        engines.engine.cache_clear()
        said = run("doctor", "--json")
    finally:
        monkeypatch.setenv("DATABASE_URL", database)
        engines.engine().dispose()
        engines.engine.cache_clear()
        settings.cache_clear()
        sql("DROP OWNED BY poor")
        sql("DROP ROLE poor")

    (finding,) = [one for one in said.json["findings"] if one["about"] == "rights"]
    assert said.code == 1
    assert finding["level"] == "fault"
    assert finding["detail"] == "missing: DELETE on area, DELETE on area_authorization, DELETE on job"


def test_the_doctor_says_what_waits_for_adoption(
    sql: Callable[..., list[Any]], broker: str, run: Run
) -> None:
    """Jobs that nobody looks at are worth a warning."""
    sql(OLDER)
    said = run("doctor", "--json")
    assert (said.code, findings(said)["older jobs"]) == (0, "warning")


def test_the_doctor_goes_on_where_a_server_is_away(
    nowhere: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each server that does not answer is one fault with a remedy."""
    monkeypatch.setenv("BROKER_URL", f"redis://:{SECRET}@127.0.0.1:{free_port()}/0")
    said = run("doctor", "--json")
    assert said.code == 1
    assert (findings(said)["database"], findings(said)["broker"]) == ("fault", "fault")
    assert all(finding["remedy"] for finding in said.json["findings"] if finding["level"] == "fault")
    assert SECRET not in said.out


# Words


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql+psycopg://me:a@b/c@host:5432/x", "postgresql://me:***@host:5432/x"),
        ("redis://:secret@host/0", "redis://:***@host/0"),
        ("redis://host/0?password=secret&db=1", "redis://host/0?password=***&db=1"),
        ("redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock"),
    ],
)
def test_urls_are_shown_without_their_passwords(url: str, expected: str) -> None:
    """Whatever the password holds, and wherever it stands."""
    assert shown(url) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (0.25, "0.2 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_665, "1 h 1 min"),
        (180_000, "2 d 2 h"),
        (-5, "0 s"),
    ],
)
def test_durations_are_said_in_two_units_at_most(seconds: float, expected: str) -> None:
    """Nobody reads seconds of days."""
    assert duration(timedelta(seconds=seconds)) == expected


def test_others_words_are_made_plain() -> None:
    """Line breaks, escapes and direction marks become dots; letters of every script stay."""
    assert plain("a\nb\x1b[0m\u202eßå漢") == "a·b·[0m·ßå漢"
