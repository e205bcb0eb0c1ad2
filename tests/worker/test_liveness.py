"""`crawlyard health --worker` and `--beat` distinguish stuck processes from idle and busy ones."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from console.checks import processes
from support.command import Run
from support.depth import deep
from support.processes.wire import Wire
from support.processes.workers import ROOT, Valkey, Worker, envelope, running, wait_until
from tasks.worker.heartbeat_file import read

TIME_LIMIT_S = 2.5
BOUND_S = TIME_LIMIT_S + 2
BEATS_BOUND_S = 2
SLACK_S = 30.0
"""Extra time on a slow machine."""

POOLS = {"prefork": "crawler", "threads": "dispatch", "solo": "upkeep"}

StartWorker = Callable[..., Worker]

pytestmark = [pytest.mark.programs, pytest.mark.timeout(400)]


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """An empty server."""
    server = Valkey(tmp_path)
    with running(server):
        yield server


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of its own for the test, as in a container."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(autouse=True)
def settings_of_the_command(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings that the command reads, and a patience that fits the bounds."""
    monkeypatch.setenv("BROKER_URL", valkey.url)
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/nothing")
    monkeypatch.setattr(processes, "RECOVERY_S", 3.0)


@pytest.fixture
def start_worker(valkey: Valkey, tmp_path: Path) -> Iterator[StartWorker]:
    """Start a worker with a short time limit, without waiting until it is ready."""
    with ExitStack() as stack:

        def start(pool: str, queue: str, children: int = 1, broker: str = "") -> Worker:
            worker = Worker(
                "support.processes.worker_app", broker or valkey.url, tmp_path / f"{pool}-{queue}.log", pool, children,
                queues=queue, wait=False, TIME_LIMIT=str(TIME_LIMIT_S), NOTES_URL=valkey.url,
            )  # fmt: skip
            stack.callback(worker.kill)
            return worker

        yield start


def push(valkey: Valkey, queue: str, task: str) -> None:
    """Publish a task as a bare producer does."""
    valkey.client.lpush(queue, json.dumps(envelope(task)))


def unwell(kind: str = "worker") -> list[int]:
    """The pids of the processes that are not well."""
    return [reading.pid for reading in read(kind) if not reading.is_well]


def well(kind: str = "worker") -> list[int]:
    """The pids of the processes that are well."""
    return [reading.pid for reading in read(kind) if reading.is_well]


@pytest.mark.gate
def test_a_worker_is_healthy_while_idle_busy_or_without_a_broker(
    valkey: Valkey, start_worker: StartWorker, run: Run, here: Path
) -> None:
    """It stays healthy for longer than its bound in every pool, and removes its file when it ends."""
    workers = {start_worker(pool, queue) for pool, queue in POOLS.items()}
    for worker in workers:
        worker.wait_until_ready()
    pids = {worker.pid for worker in workers}
    valkey.client.set("patience", TIME_LIMIT_S - 1)

    watch(pids, BOUND_S + 1 if deep() else 2)
    for queue in POOLS.values():
        push(valkey, queue, "jobs.pause")  # waits, and is requeued
    watch(pids, BOUND_S + 1)

    assert int(valkey.client.get("waits")) >= 6
    output = run("health", "--worker", "--json")
    assert (output.code, {check["name"] for check in output.json["checks"]}) == (
        0,
        {f"worker {p}" for p in pids},
    )

    valkey.kill()
    wait_until(lambda: set(unwell()) == pids, "no worker consumes", patience=BOUND_S + SLACK_S)
    output = run("health", "--worker")
    assert (output.code, output.out.count("excused, since the broker cannot be used")) == (0, 3)
    valkey.start()
    wait_until(lambda: set(well()) == pids, "they consume", patience=SLACK_S)
    output = run("health", "--worker")
    assert (output.code, output.out.count("but the broker")) == (0, 0)

    for worker in workers:
        worker.ask_to_stop()
    for worker in workers:
        worker.wait()
    assert run("health", "--worker").out == "FAIL worker: none runs on this machine under this user\n"
    assert [path for path in here.rglob("*") if path.is_file()] == []


def watch(pids: set[int], seconds: float) -> None:
    """Check for some time that these are well, except for moments, which the command tolerates too."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        wait_until(lambda: set(well()) == pids, "all are well", patience=BOUND_S)
        time.sleep(0.1)


@pytest.mark.gate
def test_a_stuck_worker_is_reported_beside_a_healthy_one(
    valkey: Valkey, start_worker: StartWorker, run: Run
) -> None:
    """
    A worker is stuck if its process, a child or a thread hangs, or its connection is dead although the broker answers.

    It is reported soon after its bound, and only for as long as it is stuck.
    """
    wire = Wire(valkey.port)
    frozen = start_worker("prefork", "crawler")
    maimed = start_worker("prefork", "dispatch", children=2)
    hung = start_worker("threads", "upkeep")
    cut_off = start_worker("solo", "crawler", broker=f"redis://127.0.0.1:{wire.port}/0")
    working = start_worker("threads", "dispatch")
    stuck = {worker.pid for worker in (frozen, maimed, hung, cut_off)}
    for worker in (frozen, maimed, hung, cut_off, working):
        worker.wait_until_ready()
    valkey.client.set("patience", 120)

    frozen.send(signal.SIGSTOP)
    os.kill(maimed.children()[0], signal.SIGSTOP)
    for _ in range(40):
        push(valkey, "dispatch", "crawler.frames")
    push(valkey, "upkeep", "jobs.pause")
    wire.go_dead(for_good=True)

    wait_until(lambda: set(unwell()) == stuck, "all four are not well", patience=BOUND_S + SLACK_S)
    output = run("health", "--worker")
    assert output.code == 1
    assert {line[:11] for line in output.out.splitlines()} == {"FAIL worker", "ok   worker"}
    assert f"ok   worker {working.pid}: last known to work" in output.out
    assert all(f"FAIL worker {pid}: last known to work" in output.out for pid in stuck)

    frozen.send(signal.SIGCONT)
    wait_until(lambda: frozen.pid in well(), "it is well again")
    assert run("health", "--worker", "--end-stuck").code == 1
    wait_until(
        lambda: [worker.lives() for worker in (maimed, hung, cut_off)] == [False] * 3, "they are ended"
    )
    assert set(well()) == {frozen.pid, working.pid}
    assert run("health", "--worker").code == 0
    wire.close()


def test_the_file_of_a_killed_worker_does_not_count(run: Run, here: Path) -> None:
    """A file without a lock belongs to a dead process, and is removed."""
    holder = process_with_file("x.beat()")
    assert well() == [holder.pid]
    holder.kill()
    holder.wait()

    output = run("health", "--worker")

    assert output.code == 1
    assert [path for path in here.rglob("*") if path.is_file()] == []


def test_a_folder_of_another_user_is_refused(start_worker: StartWorker, run: Run, here: Path) -> None:
    """Other users may write to the temporary folder of the system; a folder that they created proves nothing."""
    (here / f"crawlyard-{os.geteuid()}").mkdir(mode=0o777)
    (here / f"crawlyard-{os.geteuid()}").chmod(0o777)

    output = run("health", "--worker")

    assert output.code == 1
    assert "is not a private folder of this user" in output.out


def test_a_liveness_time_in_the_future_does_not_count(here: Path) -> None:
    """After the clock was set back, a stuck process does not count as well."""
    holder = process_with_file("x.beat(time.time() + 3600)")
    assert unwell() == [holder.pid]
    holder.kill()
    holder.wait()


def process_with_file(deed: str) -> "subprocess.Popen[bytes]":
    """Start a process that creates a liveness file `x`, does this with it, and then sleeps."""
    script = (
        "import time; from datetime import timedelta; from tasks.worker.heartbeat_file import LivenessFile"
    )
    script += f"; x = LivenessFile('worker', timedelta(seconds=9)); {deed}; print(flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
    assert holder.stdout
    with holder.stdout as output:
        output.readline()
    return holder


# Beat


@pytest.fixture
def beat(settings_of_the_command: None, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A beat that publishes often, and may be silent for two seconds."""
    environment = os.environ | {"CRAWLYARD_ASSIGN_INTERVAL": "0.3", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    with (tmp_path / "beat.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "support.processes.beat_app"],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
    yield process
    process.kill()
    process.wait()


def test_a_beat_that_stopped_sending_is_reported(
    valkey: Valkey, beat: "subprocess.Popen[bytes]", run: Run
) -> None:
    """A frozen beat is not well, and recovers as soon as it can send. A full Redis is not its fault."""
    wait_until(lambda: well("beat") == [beat.pid], "it is well")
    assert run("health", "--beat").code == 0

    os.kill(beat.pid, signal.SIGSTOP)
    wait_until(lambda: unwell("beat") == [beat.pid], "it is not well", patience=BEATS_BOUND_S + SLACK_S)
    output = run("health", "--beat")
    assert (output.code, output.out[: output.out.index(":")]) == (1, f"FAIL beat {beat.pid}")
    os.kill(beat.pid, signal.SIGCONT)
    wait_until(lambda: well("beat") == [beat.pid], "it is well again", patience=SLACK_S)

    valkey.client.config_set("maxmemory", 1)
    wait_until(lambda: unwell("beat") == [beat.pid], "it is not well", patience=BEATS_BOUND_S + SLACK_S)
    output = run("health", "--beat", "--end-stuck")
    assert (output.code, "excused, since the broker cannot be used" in output.out) == (0, True)
    valkey.client.config_set("maxmemory", 0)
    wait_until(lambda: well("beat") == [beat.pid], "it is well again", patience=SLACK_S)


def test_beat_sends_again_when_redis_is_back(
    valkey: Valkey, beat: "subprocess.Popen[bytes]", run: Run, here: Path
) -> None:
    """It does so by itself within seconds, and is not reported meanwhile. It removes its file when it ends."""
    wait_until(lambda: valkey.client.llen("dispatch"), "it sends")
    valkey.kill()
    wait_until(lambda: unwell("beat") == [beat.pid], "it is not well", patience=BEATS_BOUND_S + SLACK_S)
    assert run("health", "--beat").code == 0

    valkey.start()

    wait_until(lambda: valkey.client.llen("dispatch") >= 3, "it sends again", patience=SLACK_S)
    assert well("beat") == [beat.pid]
    beat.terminate()
    assert beat.wait() == 0
    assert [path for path in here.rglob("*") if path.is_file()] == []
