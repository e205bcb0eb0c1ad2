"""If workers and children die, hang, stop or lose their broker, no message is lost, and none runs forever."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from support.processes.workers import Valkey, Worker, envelope, running, wait_until

POOLS = ("prefork", "threads", "solo")
KILLERS = {
    "jobs.assign": ("deaths", "worker_lost"),
    "jobs.retry": ("hangs", "time_limit"),
    "jobs.cancel": ("exhaustions", "out_of_memory"),
}

NO_SWEEP = {"CRAWLYARD_SWEEP_INTERVAL": "600", "CRAWLYARD_CONNECTION_TIMEOUT": "2000"}
"""Longer than any test: all messages in Redis are the test's own."""

StartWorker = Callable[..., Worker]

pytestmark = pytest.mark.programs


@pytest.fixture
def app() -> str:
    """The app under test."""
    return "support.processes.worker_app"


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """An empty server."""
    server = Valkey(tmp_path)
    with running(server):
        yield server


@pytest.fixture
def start_worker(app: str, valkey: Valkey, tmp_path: Path) -> Iterator[StartWorker]:
    """Start a worker that is ended with the test."""
    started: list[Worker] = []

    def start(pool: str = "prefork", children: int = 1, **settings: str) -> Worker:
        log = tmp_path / f"worker-{len(started)}"
        started.append(Worker(app, valkey.url, log, pool, children, **NO_SWEEP | settings))
        return started[-1]

    yield start
    for worker in started:
        worker.close()


def push(valkey: Valkey, queue: str, task: str, **kwargs: Any) -> None:
    """Publish a task as a bare producer does."""
    valkey.client.lpush(queue, json.dumps(envelope(task, kwargs)))


def notes(valkey: Valkey, name: str) -> list[dict[str, Any]]:
    """The notes that the app wrote."""
    return [json.loads(note) for note in valkey.client.lrange(name, 0, -1)]


def number(valkey: Valkey, name: str) -> int:
    """A counter of the app."""
    return int(valkey.client.get(name) or 0)


def assert_consumes(valkey: Valkey, worker: Worker) -> None:
    """Check that the worker processes and acknowledges one more message."""
    before = valkey.client.llen("seen")
    push(valkey, "crawler", "crawler.frames")
    wait_until(lambda: valkey.client.llen("seen") > before, "the next is seen")
    wait_until(lambda: not valkey.client.exists("unacked"), "it is acknowledged")
    assert worker.lives()


@pytest.mark.parametrize("task", KILLERS)
def test_a_message_that_kills_its_child_is_rejected_after_three_attempts(
    task: str, valkey: Valkey, start_worker: StartWorker
) -> None:
    """A message whose child is killed, hangs or runs out of memory runs three times, then is rejected."""
    count, reason = KILLERS[task]
    worker = start_worker()
    message = envelope(task)
    valkey.client.lpush("dispatch", json.dumps(message))

    [kept] = wait_until(lambda: notes(valkey, "kept"), "it is rejected")
    assert_consumes(valkey, worker)
    assert number(valkey, count) == 3
    assert (kept["task"], kept["reason"], kept["message_id"]) == (task, reason, message["headers"]["id"])
    assert notes(valkey, "kept") == [kept]
    assert not valkey.client.exists("dispatch", "unacked", "unacked_index")


def test_messages_after_a_killing_one_run_before_its_next_attempt(
    valkey: Valkey, start_worker: StartWorker
) -> None:
    """
    A message that is run again goes to the end of its queue, and keeps its arguments.

    Its producer cannot change the number of attempts.
    """
    killer = envelope("jobs.assign", {"frame": 1}, headers={"retries": -1000})
    valkey.client.lpush("dispatch", json.dumps(killer))
    push(valkey, "dispatch", "crawler.frames", behind=1)
    start_worker()

    [kept] = wait_until(lambda: notes(valkey, "kept"), "it is rejected")
    assert kept["payload"] == {"args": [], "kwargs": {"frame": 1}}
    assert number(valkey, "deaths") == 3
    assert [n["kwargs"] for n in notes(valkey, "seen")] == [{"behind": 1}]


def test_a_killing_message_is_not_acknowledged_without_a_database(
    valkey: Valkey, start_worker: StartWorker
) -> None:
    """After its last attempt it waits for the database, is requeued, and is rejected in the end."""
    valkey.client.set("no_database", 1)
    start_worker(CRAWLYARD_DATABASE_WAIT="0.6")
    push(valkey, "dispatch", "jobs.assign")
    wait_until(lambda: number(valkey, "deaths") >= 4, "it was requeued")
    valkey.client.delete("no_database")

    wait_until(lambda: notes(valkey, "kept"), "it is rejected")
    wait_until(lambda: not valkey.client.exists("dispatch", "unacked"), "it is acknowledged")
    assert len(notes(valkey, "kept")) == 1


def test_a_message_waiting_for_the_database_is_not_run_elsewhere(
    valkey: Valkey, start_worker: StartWorker
) -> None:
    """A message that exceeded its last time limit is not redelivered while it waits to be rejected."""
    valkey.client.set("no_database", 1)
    start_worker()
    push(valkey, "dispatch", "jobs.retry")
    wait_until(lambda: number(valkey, "refused") >= 3, "it waits for a while")
    valkey.client.delete("no_database")

    wait_until(lambda: notes(valkey, "kept"), "it is rejected")
    wait_until(lambda: not valkey.client.exists("dispatch", "unacked"), "it is acknowledged")
    assert number(valkey, "hangs") == 3
    assert len(notes(valkey, "kept")) == 1


def test_two_messages_with_one_delivery_tag_are_both_processed(
    valkey: Valkey, start_worker: StartWorker
) -> None:
    """The end of one message does not acknowledge another with the same tag."""
    valkey.client.set("patience", 60)
    worker = start_worker(children=2)
    tag = {"delivery_tag": "always"}
    valkey.client.lpush("dispatch", json.dumps(envelope("jobs.pause", properties=tag)))
    wait_until(lambda: number(valkey, "waits"), "the first runs")
    valkey.client.lpush("crawler", json.dumps(envelope("crawler.frames", properties=tag)))
    wait_until(lambda: valkey.client.llen("seen"), "the second is served")
    wait_until(lambda: valkey.client.hlen("unacked") <= 1, "the second is acknowledged")

    worker.kill()

    assert valkey.client.hlen("unacked") == 1


def test_a_requeued_message_goes_to_the_back(valkey: Valkey, start_worker: StartWorker) -> None:
    """A message that its task requeues runs after all waiting messages, with the same id."""
    push(valkey, "dispatch", "jobs.pause")
    for n in range(3):
        push(valkey, "dispatch", "crawler.frames", n=n)
    valkey.client.set("patience", 0.2)
    start_worker()

    wait_until(lambda: valkey.client.llen("seen") == 3, "the others are served")
    wait_until(lambda: number(valkey, "waits") >= 2, "it is redelivered")
    assert valkey.client.lrange("order", 0, 4) == ["wait", "note", "note", "note", "wait"]
    assert notes(valkey, "kept") == []


@pytest.mark.parametrize("pool", POOLS)
def test_a_stopping_worker_wakes_waiting_units_and_requeues_their_message(
    pool: str, valkey: Valkey, start_worker: StartWorker
) -> None:
    """On SIGTERM a unit that would wait for a minute ends at once, and its message is requeued."""
    valkey.client.set("patience", 60)
    worker = start_worker(pool)
    push(valkey, "dispatch", "jobs.pause")
    wait_until(lambda: number(valkey, "waits"), "it waits")
    began = time.monotonic()

    worker.ask_to_stop()

    assert worker.wait() == 0
    assert time.monotonic() - began < 6
    assert valkey.client.llen("dispatch") == 1
    assert not valkey.client.exists("unacked", "unacked_index")
    assert number(valkey, "waits") == 1


def test_a_remote_shutdown_wakes_waiting_units(valkey: Valkey, start_worker: StartWorker) -> None:
    """Waiting units end even if no signal stops the worker."""
    valkey.client.set("patience", 60)
    worker = start_worker()
    push(valkey, "dispatch", "jobs.pause")
    wait_until(lambda: number(valkey, "waits"), "it waits")

    with Celery(broker=valkey.url) as producer, producer.connection_for_write() as connection:
        producer.control.broadcast("shutdown", connection=connection)

    assert worker.wait() == 0
    assert valkey.client.llen("dispatch") == 1


def test_a_cold_shutdown_requeues_the_message(valkey: Valkey, start_worker: StartWorker) -> None:
    """SIGQUIT kills a unit that does not end, and its message is requeued."""
    worker = start_worker(CRAWLYARD_DATABASE_WAIT="1")
    push(valkey, "dispatch", "jobs.pause")
    valkey.client.set("patience", 60)
    wait_until(lambda: number(valkey, "waits"), "it waits")

    worker.send(signal.SIGQUIT)

    worker.wait()
    assert valkey.client.llen("dispatch") == 1


@pytest.mark.parametrize("pool", POOLS)
def test_a_unit_survives_a_broker_restart(pool: str, valkey: Valkey, start_worker: StartWorker) -> None:
    """A unit that ends while the broker is away, or after it lost its data, does not end the worker."""
    valkey.client.set("patience", 1)
    worker = start_worker(pool)
    push(valkey, "dispatch", "jobs.pause")
    wait_until(lambda: number(valkey, "waits"), "it waits")
    valkey.kill()
    valkey.start()

    wait_until(lambda: "reject requeue" in worker.output(), "it ends")
    assert_consumes(valkey, worker)


@pytest.mark.parametrize("pool", POOLS)
def test_each_worker_publishes_the_sweep(pool: str, valkey: Valkey, start_worker: StartWorker) -> None:
    """Without beat the sweep is still published, also after the broker was lost."""
    start_worker(pool, CRAWLYARD_SWEEP_INTERVAL="0.3")
    wait_until(lambda: number(valkey, "sweeps") >= 3, "three sweeps")
    valkey.client.client_kill_filter(_type="normal", skipme=True)
    before = number(valkey, "sweeps")
    wait_until(lambda: number(valkey, "sweeps") >= before + 2, "two more")
