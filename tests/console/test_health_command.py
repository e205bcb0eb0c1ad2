"""`crawlyard health`: passes after a recent sweep, and answers within seconds whatever is down."""

import socket
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from console.commands import health
from console.commands.health import check_sweep
from console.embedded.servers import Services
from persistence.reports.status import SweepClock
from persistence.settings import settings
from support.command import SECRET, Run, Sql
from support.processes.workers import free_port


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a database that is up answer as slowly as it does on a busy machine."""
    monkeypatch.setattr(health, "_TIMEOUT_S", 30.0)


@pytest.mark.usefixtures("patient")
def test_health_passes_after_a_sweep(sql: Sql, broker: str, run: Run) -> None:
    """Database, sweep and broker are one line each, and the exit code is 0."""
    sql("UPDATE liveness_state SET last_sweep_at = now() - interval '50 s'")
    output = run("health")
    assert output.code == 0
    assert [line.split(":")[0] for line in output.out.splitlines()] == [
        "ok   database",
        "ok   last sweep",
        "ok   broker",
    ]
    assert run("health", "--json").json["healthy"] is True


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("last", ["now() - interval '61 s'", "now() + interval '61 s'"])
def test_health_fails_without_a_sweep_in_a_minute(last: str, sql: Sql, broker: str, run: Run) -> None:
    """A last sweep more than a minute ago, or in the future, fails the check."""
    sql(f"UPDATE liveness_state SET last_sweep_at = {last}")
    output = run("health")
    assert output.code == 1
    assert "FAIL last sweep" in output.out


def test_health_gives_a_new_installation_a_minute_to_sweep(services: Services) -> None:
    """If no sweep was ever recorded, the uptime of the database server decides."""
    settings.cache_clear()
    young, old = (SweepClock(None, None, None, timedelta(seconds=up)) for up in (60, 61))
    assert check_sweep(young).healthy
    assert not check_sweep(old).healthy


@pytest.mark.usefixtures("patient")
def test_health_fails_before_the_first_migration(empty_database: str, broker: str, run: Run) -> None:
    """A database without Crawlyard's tables fails the check, with what to do."""
    output = run("health")
    assert output.code == 1
    assert "FAIL database: The database was never migrated: run `crawlyard migrate`." in output.out


def test_health_fails_without_servers(run: Run, nowhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both servers fail their checks, and no password is printed."""
    monkeypatch.setenv("BROKER_URL", f"redis://:{SECRET}@127.0.0.1:{free_port()}/0")
    output = run("health")
    assert output.code == 1
    assert output.out.count("FAIL") == 2
    assert SECRET not in output.out


def test_health_ends_within_seconds_with_silent_servers(
    silent_port: int, nowhere: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen servers are the worst case: they accept a connection and never answer."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:{SECRET}@127.0.0.1:{silent_port}/x")
    monkeypatch.setenv("BROKER_URL", f"redis://:{SECRET}@127.0.0.1:{silent_port}/0")

    started = time.monotonic()
    output = run("health")

    assert time.monotonic() - started < 3
    assert output.code == 1
    assert output.out.splitlines() == [
        "FAIL database: The database has not answered in time.",
        "FAIL broker: The broker cannot be used: Timeout reading from socket",
    ]
