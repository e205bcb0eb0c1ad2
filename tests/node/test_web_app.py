"""The web app of examples/web-app, run as a process with a real worker and a simulated fleet; for `make test-node`."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from console.demo.processes import Supervisor
from console.simulator.fleet import Fleet, FleetOptions
from persistence.settings import settings
from support.own_gateway.sessions import own_gateway
from support.processes.workers import PATIENCE_S, ROOT, free_port, wait_until
from support.worlds.world import World
from tasks.client import Producer

PROGRAMS = ROOT / "examples" / "web-app" / "dist"
END = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%edge_xid%'
"""


@pytest.fixture
def producer(broker: str) -> Iterator[Producer]:
    """A producer, which publishes for the fleet."""
    with closing(Producer(broker)) as opened:
        yield opened


@pytest.fixture
def worker(world: World, broker: str, tmp_path: Path) -> Iterator[None]:
    """A worker. There is no beat: it runs only the tasks that are published here."""
    environment = {"DATABASE_URL": os.environ["DATABASE_URL"], "BROKER_URL": broker}
    with Supervisor(tmp_path, environment) as processes:
        child = processes.start("worker", "worker", "--concurrency", "1")
        wait_until(lambda: "ready." in child.log_tail(), "the worker is ready")
        yield


@contextmanager
def fleet(producer: Producer, work_seconds: float = 0.1) -> Iterator[None]:
    """One crawler, whose first jobs succeed."""
    heartbeat_seconds = settings().heartbeat_interval.total_seconds()
    gateway = own_gateway(producer, os.environ["DATABASE_URL"], heartbeat_seconds)
    with Fleet(FleetOptions(crawlers=1, seed=1, work_seconds=work_seconds), gateway) as running:
        yield
    running.check()


@contextmanager
def node(program: str, *arguments: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Run one of the programs, and kill it at the end."""
    process = subprocess.Popen(
        ["node", str(PROGRAMS / program), *arguments],
        env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: "subprocess.Popen[str]") -> tuple[int, list[str], str]:
    """Wait for a program; returns its exit code, its lines of output, and its errors."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out.splitlines(), err


def first_line(process: "subprocess.Popen[str]") -> str:
    """Return the job's id from the first line of output."""
    assert process.stdout is not None
    (job_id,) = re.findall(r"Inserted job (\w{26})\.", process.stdout.readline())
    return str(job_id)


@pytest.mark.usefixtures("worker")
def test_the_web_app_sees_its_job_finish(world: World, producer: Producer) -> None:
    """The job is inserted, published, crawled, and followed until it has finished."""
    with fleet(producer), node("main.js", "--account", "mine") as web_app:
        job_id = first_line(web_app)
        code, lines, err = ended(web_app)

    assert (code, err, lines[-1]) == (0, "", "The job is finished.")
    events = [(kind, json.loads(payload)) for kind, payload in (line.split(" ", 1) for line in lines[:-1])]
    statuses = [payload["status"] for kind, payload in events if kind == "job_updated"]
    assert statuses[-2:] == ["running", "finished"]
    assert {"job_created", "job_assigned", "progress_updated"} <= {kind for kind, _ in events}
    assert (world.job(job_id).status, world.job(job_id).accountId) == ("finished", "mine")


@pytest.mark.usefixtures("worker")
def test_the_web_app_survives_a_lost_connection(world: World, producer: Producer) -> None:
    """If the server ends the connection, all later events are printed all the same, once each."""
    with node("main.js") as web_app:
        job_id = first_line(web_app)
        wait_until(lambda: world.scalar("SELECT count(*) FROM job_queue") == 1, "the job is queued")
        wait_until(lambda: world.rows(END), "the web app follows the events")
        with fleet(producer):
            code, lines, err = ended(web_app)

    assert (code, lines[-1], world.job(job_id).status) == (0, "The job is finished.", "finished")
    assert "No events for the moment: " in err
    assert len([line for line in lines if line.startswith("job_assigned ")]) == 1
    updates = [json.loads(line.split(" ", 1)[1]) for line in lines if line.startswith("job_updated ")]
    assert [update["status"] for update in updates].count("finished") == 1


@pytest.mark.usefixtures("worker")
def test_a_failed_job_is_reported(world: World, producer: Producer) -> None:
    """The exit code is 1, and the error is the job's status."""
    with node("main.js") as web_app:
        job_id = first_line(web_app)
        producer.publish("jobs.cancel", {"job_ids": [job_id]})
        code, _, err = ended(web_app)
    assert (code, err) == (1, f"Job {job_id} is cancelled.\n")


def test_a_job_that_exceeds_its_time_is_reported(world: World, broker: str) -> None:
    """Without a crawler the program ends with an error; that it could not publish is only a warning."""
    silent = f"redis://127.0.0.1:{free_port()}/0"
    with node("main.js", "--timeout", "0.5", BROKER_URL=silent) as web_app:
        job_id = first_line(web_app)
        code, _, err = ended(web_app)
    warning, error = err.splitlines()
    assert (code, error) == (1, f"Job {job_id} has not ended within 0.5 s.")
    assert warning.startswith("jobs.enqueue could not be published (")
    assert world.job(job_id).status == "queued"


def test_a_missing_database_is_reported(broker: str) -> None:
    """The error is one line."""
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    with node("main.js", DATABASE_URL=nowhere) as web_app:
        code, lines, err = ended(web_app)
    assert (code, lines, len(err.splitlines())) == (1, [], 1)
    assert "ECONNREFUSED" in err


@pytest.mark.usefixtures("worker")
def test_celery_node_publishes_too(world: World) -> None:
    """A message from celery-node is handled like any other."""
    job_id = world.insert_job()
    with node("celery-node.js", job_id) as other:
        assert ended(other) == (0, [f"Published jobs.enqueue for {job_id}."], "")
    wait_until(lambda: world.scalar("SELECT count(*) FROM job_queue") == 1, "the job is queued")
    assert (world.entry(job_id).status, world.rejections()) == ("pending", [])


def test_celery_node_ends_the_process_without_redis(world: World) -> None:
    """celery-node does not handle the error of its connection, which ends the process."""
    with node("celery-node.js", "a-job", BROKER_URL=f"redis://127.0.0.1:{free_port()}/0") as other:
        code, lines, err = ended(other)
    assert (code, lines) == (1, [])
    assert "ECONNREFUSED" in err
