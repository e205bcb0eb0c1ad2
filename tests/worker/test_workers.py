"""Real workers, beat and a simulated fleet lose no job, whatever fails meanwhile."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy.exc import OperationalError
from ulid import ULID

from console.embedded.servers import Services
from console.simulator.fleet import Fleet, FleetOptions
from persistence.db.engine import engine
from support import poolers
from support.own_gateway.sessions import own_gateway
from support.processes.forks import Forked
from support.processes.programs import program
from support.processes.workers import ROOT, wait_until
from support.worlds.world import Published, World
from tasks.client import Producer

Start = Callable[..., World]

pytestmark = [pytest.mark.programs, pytest.mark.timeout(180)]


@pytest.fixture
def run(
    services: Services, database: str, broker: str, published: Published, tmp_path: Path
) -> Iterator[Start]:
    """Starts `crawlyard worker` and the like on the test's database and broker."""
    with ExitStack() as stack:

        def start(*commands: str, **environment: str) -> World:
            environment = {"DATABASE_URL": poolers.through(database), "BROKER_URL": broker} | environment
            for number, command in enumerate(commands):
                log = tmp_path / f"{number}-{command.split()[0]}.log"
                stack.enter_context(
                    closing(Forked("console.main", command.split(), os.environ | environment, log))
                )
            world = World(published)
            world.account("acc")
            return world

        yield start


@pytest.fixture
def producer(broker: str) -> Iterator[Producer]:
    """The producer of a web app."""
    producer = Producer(broker)
    yield producer
    producer.close()


def ended(world: World) -> bool:
    """True if no job waits or runs."""
    return world.scalar("SELECT count(*) = 0 FROM job WHERE status IN ('queued', 'running')") is True


def balanced(world: World, jobs: list[str]) -> None:
    """Check that every job exists once, and has finished with one completed attempt or failed with errors."""
    assert sorted(row.id for row in world.rows("SELECT id FROM job")) == sorted(jobs)
    assert (
        world.rows("""
        SELECT job.id FROM job
         WHERE (job.status = 'finished')
               <> (1 = (SELECT count(*) FROM job_assignment_mapping a
                         WHERE a.web_app_job_id = job.id AND a.status = 'completed'))
            OR (job.status = 'failed' AND NOT EXISTS (SELECT FROM job_error_log e WHERE e.job_id = job.id))
            OR job.status NOT IN ('finished', 'failed')
    """)
        == []
    )
    assert world.scalar("SELECT count(*) FROM crawler_order") == 0
    assert world.scalar("SELECT count(*) FROM job_queue WHERE status IN ('pending', 'processing')") == 0


def submitted(world: World, producer: Producer, count: int) -> list[str]:
    """Submit orders through the broker, and wait until their jobs exist."""
    orders = [world.order() for _ in range(count)]
    producer.publish("jobs.submit", {"orders": orders})
    wait_until(lambda: world.scalar("SELECT count(*) FROM job") >= count, "the jobs are there")
    return [order["web_app_job_id"] for order in orders]


def fleet(producer: Producer, database: str, crawlers: int = 4, seed: int = 5) -> Fleet:
    """Crawlers that work fast and send heartbeats often."""
    options = FleetOptions(crawlers=crawlers, seed=seed, work_seconds=0.3)
    return Fleet(options, own_gateway(producer, database, heartbeat_seconds=1))


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_every_pool_completes_jobs(run: Start, producer: Producer, database: str, pool: str) -> None:
    """Jobs finish with one worker for all queues, and beat."""
    world = run(f"worker --pool {pool} --concurrency 2", "beat")
    jobs = submitted(world, producer, 30)

    with fleet(producer, database) as crawlers:
        wait_until(lambda: ended(world), "every job has ended", patience=60)
        crawlers.check()

    balanced(world, jobs)


def test_every_job_ends_although_redis_is_flushed_midway(
    run: Start, producer: Producer, database: str, broker: str
) -> None:
    """Producers repeat messages until they see the result, and sweeps find rows whose message was lost."""
    world = run(
        "worker --concurrency 2", "beat", CRAWLYARD_RECONCILE_INTERVAL="1", CRAWLYARD_ASSIGN_INTERVAL="1"
    )
    jobs = submitted(world, producer, 60)

    with fleet(producer, database) as crawlers, redis.Redis.from_url(broker) as client:
        for finished in (5, 20, 40):
            wait_until(
                lambda: world.scalar("SELECT count(*) FROM job WHERE status = 'finished'") >= finished,  # noqa: B023
                f"{finished} have finished",
                patience=60,
            )
            client.flushall()
        wait_until(lambda: ended(world), "every job has ended", patience=60)
        crawlers.check()

    balanced(world, jobs)


def test_a_job_whose_message_was_lost_is_found(run: Start, producer: Producer, database: str) -> None:
    """Reconcile queues a job that the web app inserted without publishing anything."""
    world = run("worker --concurrency 1", "beat", CRAWLYARD_RECONCILE_INTERVAL="1")
    jobs = [world.insert_job() for _ in range(3)]

    with fleet(producer, database):
        wait_until(lambda: ended(world), "every job has ended", patience=60)

    balanced(world, jobs)


def test_jobs_of_a_dead_crawler_are_requeued_without_beat(run: Start, producer: Producer) -> None:
    """Each worker's own timer publishes the sweep."""
    world = run(
        "worker --concurrency 1", CRAWLYARD_CONNECTION_TIMEOUT="4", CRAWLYARD_HEARTBEAT_INTERVAL="0.5"
    )
    connection = str(ULID())
    producer.publish("connections.register", {"connection_id": connection})
    submitted(world, producer, 2)
    wait_until(lambda: world.scalar("SELECT count(*) FROM crawler_order") == 2, "the jobs are assigned")

    wait_until(
        lambda: world.scalar("SELECT count(*) FROM crawler_order") == 0, "the jobs are back", patience=40
    )

    assert world.scalar("SELECT count(*) FROM job_queue WHERE status = 'pending' AND losses = 1") == 2
    assert world.scalar("SELECT is_active FROM socket_connection") is False


def test_several_beats_act_as_one(run: Start, producer: Producer) -> None:
    """Sweeps keep their interval, however many beats publish them."""
    world = run("worker --concurrency 1", "beat", "beat", "beat", CRAWLYARD_SWEEP_INTERVAL="1")
    last = wait_until(lambda: world.scalar("SELECT last_sweep_at FROM liveness_state"), "a first sweep")
    sweeps = [last]
    while len(sweeps) < 6:
        query = "SELECT last_sweep_at FROM liveness_state WHERE last_sweep_at > :last"
        (row,) = wait_until(partial(world.rows, query, last=sweeps[-1]), "another sweep")
        sweeps.append(row.last_sweep_at)

    gaps = [(b - a).total_seconds() for a, b in pairwise(sweeps)]
    assert min(gaps) >= 0.5


def test_no_message_is_lost_while_the_database_is_away(
    run: Start, producer: Producer, services: Services, database: str, broker: str
) -> None:
    """Under load, and for longer than a unit waits, each message is requeued until it is processed."""
    world = run("worker --concurrency 2", CRAWLYARD_DATABASE_WAIT="1")
    before = submitted(world, producer, 5)
    services.postgres.stop("immediate")
    orders = [world.order() for _ in range(40)]
    try:
        for order in orders:
            producer.publish("jobs.submit", {"orders": [order]})
        wait_until(lambda: _waited_in_vain(broker), "units have waited in vain", patience=30)
    finally:
        services.postgres.start()
        engine().dispose()

    wait_until(lambda: _jobs(world) == 45, "every order is there", patience=60)
    assert sorted(row.id for row in world.rows("SELECT id FROM job")) == sorted(
        [*before, *(order["web_app_job_id"] for order in orders)]
    )
    assert world.rejections() == []


def _jobs(world: World) -> int:
    """The number of jobs; 0 until a pooler has noticed that the server is back."""
    with suppress(OperationalError):
        return int(world.scalar("SELECT count(*) FROM job"))
    return 0


def _waited_in_vain(broker: str) -> bool:
    """True if a redelivered message is in its queue."""
    with redis.Redis.from_url(broker) as client:
        return any(b'"redelivered": true' in message for message in client.lrange("dispatch", 0, -1))


def test_a_starting_worker_migrates_when_configured(
    services: Services, empty_database: str, broker: str, tmp_path: Path
) -> None:
    """The worker creates the tables and then sweeps."""
    environment = {"BROKER_URL": broker, "CRAWLYARD_MIGRATE_ON_START": "1"} | poolers.environment(
        empty_database
    )
    with (
        closing(
            Forked(
                "console.main", ["worker", "--concurrency", "1"], os.environ | environment, tmp_path / "log"
            )
        ),
        psycopg.connect(empty_database, autocommit=True) as sql,
    ):
        there = "SELECT to_regclass('liveness_state') IS NOT NULL"
        wait_until(lambda: sql.execute(there).fetchone() == (True,), "the tables are there")
        swept = "SELECT last_sweep_at IS NOT NULL FROM liveness_state"
        wait_until(lambda: sql.execute(swept).fetchone() == (True,), "a sweep took place")


@pytest.mark.gate
def test_a_job_of_a_script_outlives_ctrl_c_and_ends_on_sigterm(
    database: str, broker: str, published: Published, tmp_path: Path
) -> None:
    """A script that starts worker and beat with `&` makes them ignore SIGINT; they continue."""
    world = World(published)
    urls = {"DATABASE_URL": poolers.through(database), "BROKER_URL": broker}
    logs = [tmp_path / "worker", tmp_path / "beat"]
    with ExitStack() as stack:
        started = []
        for log, command in zip(logs, ("worker --pool solo", "beat"), strict=True):
            words = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "console.main"]
            output = stack.enter_context(log.open("wb"))
            started.append(
                stack.enter_context(
                    program(
                        [*words, *command.split()], cwd=ROOT, env=os.environ | urls,
                        stdout=output, stderr=subprocess.STDOUT,
                    )
                )
            )  # fmt: skip
        wait_until(lambda: world.scalar("SELECT last_sweep_at FROM liveness_state"), "a first sweep")

        for each in started:
            each.send_signal(signal.SIGINT)

        sent, now = logs[1].read_text().count("expire_dead"), world.now()
        wait_until(lambda: logs[1].read_text().count("expire_dead") >= sent + 2, "beat goes on")
        wait_until(
            lambda: world.scalar("SELECT last_sweep_at FROM liveness_state") > now, "the worker goes on"
        )
        for each in started:
            each.terminate()
        assert [each.wait(60) for each in started] == [0, 0]


def test_beat_stops_even_if_the_exception_of_its_signal_handler_is_lost(broker: str) -> None:
    """It ends after the current round of its loop."""
    code = """
import os, signal
from celery.beat import Scheduler
from console.commands.worker import start_beat

def tick(self):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except SystemExit:
        print("lost", flush=True)
    return 0.01

Scheduler.tick = tick
start_beat(loglevel="info")
"""
    urls = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nothing", "BROKER_URL": broker}
    command = [sys.executable, "-c", code]
    with program(command, cwd=ROOT, env=os.environ | urls, stdout=subprocess.PIPE) as beat:
        output, _ = beat.communicate(timeout=60)
    assert (beat.returncode, output) == (0, "lost\n")
