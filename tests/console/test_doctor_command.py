"""`crawlyard doctor`: its findings, the settings that it lists, and that it prints no secret."""

import json
from pathlib import Path

import pytest
import redis

from console.checks.doctor import broker as doctor_broker
from support.command import SECRET, CommandOutput, Run, Sql
from support.processes.workers import free_port
from support.worlds.older_databases import OLDER
from tasks.worker.remote_control import WorkerAnswer


def findings(output: CommandOutput) -> dict[str, str]:
    """Return the levels of the findings by what was examined."""
    return {finding["about"]: finding["level"] for finding in output.json["findings"]}


def test_the_doctor_finds_no_fault_on_a_healthy_system(database: str, broker: str, run: Run) -> None:
    """The only warnings: the tests' own server turns fsync off, and no GitLab is named. The exit code is 0."""
    output = run("doctor", "--json")
    assert output.code == 0
    assert {about for about, level in findings(output).items() if level != "ok"} == {"fsync", "GitLabs"}
    assert {"python", "celery", "kombu", "redis", "sqlalchemy", "psycopg", "crawlyard"} == set(
        output.json["versions"]
    )


def test_the_doctor_shows_every_setting_and_no_password(database: str, broker: str, run: Run) -> None:
    """Each setting has its value and its source."""
    output = run("doctor")
    values = {one["name"]: (one["value"], one["source"]) for one in run("doctor", "--json").json["settings"]}
    assert values["CRAWLYARD_SWEEP_INTERVAL"] == ("1 s", "environment")
    assert values["CRAWLYARD_ASSIGN_INTERVAL"] == ("5 s", "default")
    for url in (database, broker):
        password = url.partition("@")[0].rpartition(":")[2]
        assert password not in output.out
        assert password not in str(values)


def test_the_doctor_shows_only_the_hosts_of_providers(
    database: str, broker: str, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Providers may also come from a file, whose variable is known too; their secrets are not shown."""
    client = {"client_id": "crawlyard", "client_secret": SECRET}
    (tmp_path / "providers").write_text(json.dumps({"https://gitlab.example.org": client}))
    monkeypatch.setenv("CRAWLYARD_OAUTH_PROVIDERS_FILE", str(tmp_path / "providers"))
    output = run("doctor", "--json")
    values = {one["name"]: (one["value"], one["source"]) for one in output.json["settings"]}
    assert values["CRAWLYARD_OAUTH_PROVIDERS"] == ("https://gitlab.example.org", "file")
    assert "the environment" not in findings(output)
    assert SECRET not in output.out + output.err + run("doctor").out


def test_the_doctor_requires_a_broker_without_eviction(database: str, broker: str, run: Run) -> None:
    """Any eviction policy is a fault."""
    with redis.Redis.from_url(broker) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        output = run("doctor", "--json")
        client.config_set("maxmemory-policy", "noeviction")
    assert output.code == 1
    assert findings(output)["maxmemory-policy"] == "fault"


@pytest.mark.usefixtures("database", "broker")
@pytest.mark.parametrize(
    ("answers", "level", "detail"),
    [
        ([], "ok", "none answers"),
        ([WorkerAnswer("a", "0.5"), WorkerAnswer("b", "0.5")], "ok", "2 workers of 0.5"),
        (
            [WorkerAnswer("a", "0.5"), *(WorkerAnswer(f"old-{n}", None) for n in range(4))],
            "warning",
            "4 workers without a version answer, possibly of 0.4.1 or before: old-0, old-1, old-2, …",
        ),
    ],
)
def test_the_doctor_sees_idle_workers_of_older_versions(
    answers: list[WorkerAnswer], level: str, detail: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They answer remote control, but tell no version; what they may do is said, and what to do."""
    monkeypatch.setattr(doctor_broker, "ask_workers", lambda _: answers)
    output = run("doctor", "--json")
    (found,) = [one for one in output.json["findings"] if one["about"] == "workers"]
    assert (output.code, found["level"], found["detail"]) == (0, level, detail)
    assert ("the last of them is gone" in found["remedy"]) == (level == "warning")


@pytest.mark.usefixtures("database", "broker")
def test_a_broker_that_is_lost_while_its_workers_are_asked_is_a_fault(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that never answered; the other examinations go on."""

    def lost(_: object) -> list[WorkerAnswer]:
        raise redis.ConnectionError("gone")

    monkeypatch.setattr(doctor_broker, "ask_workers", lost)
    output = run("doctor", "--json")
    assert (output.code, findings(output)["broker"], findings(output)["schema"]) == (1, "fault", "ok")


UNFIT = [
    ("CRAWLYARD_LOCK_TIMEOUT", "1", "locks", "fault"),
    pytest.param(
        ("CRAWLYARD_POOL_SIZE", "100", "connections to the server", "warning"),
        marks=pytest.mark.unpooled("a pooler sets its own limit of connections"),
    ),
    ("CRAWLYARD_SWEEP_INTERVALL", "1", "the environment", "warning"),
]


@pytest.mark.parametrize("unfit", UNFIT, ids=lambda unfit: unfit[0])
def test_the_doctor_reports_conflicting_settings(
    unfit: tuple[str, str, str, str], database: str, broker: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor finds conflicts that the validation of single settings cannot find."""
    name, value, about, level = unfit
    monkeypatch.setenv(name, value)
    output = run("doctor", "--json")
    assert findings(output)[about] == level
    assert output.code == (1 if level == "fault" else 0)


def test_the_doctor_requires_a_migrated_database(empty_database: str, broker: str, run: Run) -> None:
    """A missing schema is a fault, and the rest of the server is examined all the same."""
    output = run("doctor", "--json")
    assert (output.code, findings(output)["schema"], findings(output)["PostgreSQL"]) == (1, "fault", "ok")


def test_the_doctor_reports_jobs_that_wait_for_adoption(sql: Sql, broker: str, run: Run) -> None:
    """Jobs of an older database that were not adopted are a warning."""
    sql(OLDER)
    output = run("doctor", "--json")
    assert (output.code, findings(output)["older jobs"]) == (0, "warning")


def test_the_doctor_continues_if_a_server_is_down(
    nowhere: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each server that does not answer is one fault, with a remedy."""
    monkeypatch.setenv("BROKER_URL", f"redis://:{SECRET}@127.0.0.1:{free_port()}/0")
    output = run("doctor", "--json")
    assert output.code == 1
    assert (findings(output)["database"], findings(output)["broker"]) == ("fault", "fault")
    assert all(finding["remedy"] for finding in output.json["findings"] if finding["level"] == "fault")
    assert SECRET not in output.out
