"""The web app of examples/web-app, as a process beside a real worker and a simulated fleet; for `make test-node`."""

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
    """A bell."""
    with closing(Producer(broker)) as bell:
        yield bell


@pytest.fixture
def worker(world: World, broker: str, tmp_path: Path) -> Iterator[None]:
    """A worker; without beat: what is done, a bell has asked for."""
    environment = {"DATABASE_URL": os.environ["DATABASE_URL"], "BROKER_URL": broker}
    with Supervisor(tmp_path, environment) as processes:
        child = processes.start("worker", "worker", "--concurrency", "1")
        wait_until(lambda: "ready." in child.log_tail(), "the worker is ready")
        yield


@contextmanager
def fleet(producer: Producer, work_seconds: float = 0.1) -> Iterator[None]:
    """One crawler, whose first jobs end well."""
    options = FleetOptions(
        crawlers=1, seed=1, work_seconds=work_seconds, heartbeat_seconds=settings().heartbeat_interval.total_seconds()
    )  # fmt: skip
    with Fleet(options, producer, os.environ["DATABASE_URL"]) as running:
        yield
    running.check()


@contextmanager
def node(program: str, *arguments: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """One of the programs, until the test ends."""
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
    """Exit code, lines on standard output, and standard error."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out.splitlines(), err


def first_line(process: "subprocess.Popen[str]") -> str:
    """The job's id, from the line that tells it."""
    assert process.stdout is not None
    (job_id,) = re.findall(r"Inserted job (\w{26})\.", process.stdout.readline())
    return str(job_id)


@pytest.mark.usefixtures("worker")
def test_the_web_app_sees_its_job_finish(world: World, producer: Producer) -> None:
    """The job is inserted in its own transaction, queued by its ring, crawled, and told of to the end."""
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
    """Ended by the server before anything has come of the job: what comes is told all the same, once."""
    with node("main.js") as web_app:
        job_id = first_line(web_app)
        wait_until(lambda: world.scalar("SELECT count(*) FROM job_queue") == 1, "its ring was heard")
        wait_until(lambda: world.rows(END), "it follows")
        with fleet(producer):
            code, lines, err = ended(web_app)

    assert (code, lines[-1], world.job(job_id).status) == (0, "The job is finished.", "finished")
    assert "No events for the moment: " in err
    assert len([line for line in lines if line.startswith("job_assigned ")]) == 1
    assert lines.count('job_updated {"status": "finished"}'.replace(": ", ":")) == 1


@pytest.mark.usefixtures("worker")
def test_a_failed_job_is_reported(world: World, producer: Producer) -> None:
    """Exit code 1, and why."""
    with node("main.js") as web_app:
        job_id = first_line(web_app)
        producer.publish("jobs.cancel", {"job_ids": [job_id]})
        code, _, err = ended(web_app)
    assert (code, err) == (1, f"Job {job_id} is cancelled.\n")


def test_a_job_that_exceeds_its_time_is_reported(world: World, broker: str) -> None:
    """Nobody works; nor is the bell heard, which is only a warning."""
    silent = f"redis://127.0.0.1:{free_port()}/0"
    with node("main.js", "--timeout", "0.5", BROKER_URL=silent) as web_app:
        job_id = first_line(web_app)
        code, _, err = ended(web_app)
    warning, complaint = err.splitlines()
    assert (code, complaint) == (1, f"Job {job_id} has not ended within 0.5 s.")
    assert warning.startswith("The bell was not heard (")
    assert world.job(job_id).status == "queued"


def test_a_missing_database_is_reported(broker: str) -> None:
    """In one line."""
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    with node("main.js", DATABASE_URL=nowhere) as web_app:
        code, lines, err = ended(web_app)
    assert (code, lines, len(err.splitlines())) == (1, [], 1)
    assert "ECONNREFUSED" in err


@pytest.mark.usefixtures("worker")
def test_celery_node_publishes_too(world: World) -> None:
    """Its message is handled as any other is."""
    job_id = world.insert_job()
    with node("celery-node.js", job_id) as other:
        assert ended(other) == (0, [f"Rang for {job_id}."], "")
    wait_until(lambda: world.scalar("SELECT count(*) FROM job_queue") == 1, "its ring was heard")
    assert (world.entry(job_id).status, world.rejections()) == ("pending", [])


def test_celery_node_ends_the_process_without_redis(world: World) -> None:
    """A limit of its own: nothing catches what its connection meets."""
    with node("celery-node.js", "a-job", BROKER_URL=f"redis://127.0.0.1:{free_port()}/0") as other:
        code, lines, err = ended(other)
    assert (code, lines) == (1, [])
    assert "ECONNREFUSED" in err
