"""A worker takes a task from its own queue only, and only messages of its own deployment."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from support.processes.workers import Valkey, Worker, envelope, running, wait_until
from tasks.app import app
from tasks.client import Producer
from tasks.contract.payloads import CONTRACT
from tasks.routes import queue_of

APP = "support.processes.worker_app"


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """An empty server."""
    server = Valkey(tmp_path)
    with running(server):
        yield server


def push(valkey: Valkey, key: str, *args: Any, **changes: Any) -> str:
    """Push a message as a bare producer does; returns its id."""
    message = envelope(*args, **changes)
    valkey.client.lpush(key, json.dumps(message))
    return str(message["headers"]["id"])


def notes(valkey: Valkey, name: str) -> list[dict[str, Any]]:
    """The notes that the app wrote."""
    return [json.loads(note) for note in valkey.client.lrange(name, 0, -1)]


@pytest.mark.parametrize("task", CONTRACT)
def test_a_task_has_one_queue_for_workers_and_producers(services: object, task: str) -> None:
    """The rule by which a worker refuses is that by which Celery routes."""
    assert queue_of(task) == app.amqp.router.route({}, task)["queue"].name


@pytest.mark.programs
def test_a_task_outside_its_queue_is_refused_and_kept(valkey: Valkey, tmp_path: Path) -> None:
    """Who may push to one queue reaches no task of another; an unknown task is still called unknown."""
    worker = Worker(APP, valkey.url, tmp_path / "log", queues="crawler,dispatch", OWN_QUEUES_ONLY="1")
    with running(worker):
        stray = push(valkey, "crawler", "jobs.assign", {"kept": 1})
        frames = push(valkey, "dispatch", "crawler.frames", {"kept": 2})
        push(valkey, "crawler", "nobody.knows")
        own = push(valkey, "crawler", "crawler.frames")

        wait_until(lambda: len(notes(valkey, "kept")) == 3, "they are kept")
        wait_until(lambda: notes(valkey, "seen"), "its own is seen")
        wait_until(lambda: not valkey.client.exists("crawler", "dispatch", "unacked"), "all is acknowledged")
        assert worker.lives()
    kept = {note["message_id"]: note for note in notes(valkey, "kept")}
    assert kept[stray]["reason"] == kept[frames]["reason"] == "wrong_queue"
    assert (kept[stray]["task"], kept[stray]["detail"]) == ("jobs.assign", "its queue is dispatch")
    assert kept[stray]["payload"] == {"args": [], "kwargs": {"kept": 1}}
    assert sorted(note["reason"] for note in kept.values()) == ["unknown_task", "wrong_queue", "wrong_queue"]
    assert [note["id"] for note in notes(valkey, "seen")] == [own]
    assert valkey.client.get("deaths") is None


@pytest.mark.programs
@pytest.mark.parametrize("ours", ["blue", ""])
def test_a_message_of_another_deployment_is_refused_and_kept(
    ours: str, valkey: Valkey, tmp_path: Path
) -> None:
    """A message without the header is ours; one with another name is not, even if we have none."""
    worker = Worker(APP, valkey.url, tmp_path / "log", CRAWLYARD_DEPLOYMENT=ours)
    with running(worker):
        refused = [
            push(valkey, "crawler", "crawler.frames", headers={"deployment": name})
            for name in ("green", "Blue", ["blue"])
        ]
        accepted = [
            push(valkey, "crawler", "crawler.frames", headers=headers)
            for headers in ({}, {"deployment": None}, {"deployment": ours})
        ]
        wait_until(lambda: len(notes(valkey, "seen")) == len(accepted), "ours are seen")
        wait_until(lambda: len(notes(valkey, "kept")) == len(refused), "the others are kept")
    assert [note["id"] for note in notes(valkey, "seen")] == accepted
    assert [(note["message_id"], note["reason"]) for note in notes(valkey, "kept")] == [
        *((id_, "wrong_deployment") for id_ in refused[:2]),
        (refused[2], "malformed"),
    ]


@pytest.mark.programs
@pytest.mark.gate
def test_deployments_with_different_prefixes_share_a_server(valkey: Valkey, tmp_path: Path) -> None:
    """Queues, unacknowledged messages and remote control are apart; a dead worker's message stays with its own."""
    quick = {"BROKER_OPTIONS": json.dumps({"visibility_timeout": 1, "unacked_restore_interval": 0.5})}
    blue = Worker(APP, valkey.url, tmp_path / "blue", CRAWLYARD_QUEUE_PREFIX="blue:", **quick)
    other = Worker(APP, valkey.url, tmp_path / "other", **quick)
    with running(blue, other):
        valkey.client.set("patience", 60)
        held = push(valkey, "blue:dispatch", "jobs.pause")
        wait_until(lambda: valkey.client.get("waits"), "it is held")
        assert valkey.client.exists("blue:unacked", "blue:unacked_index") == 2
        assert not valkey.client.exists("unacked", "unacked_index")
        blue.kill()
        mine = push(valkey, "crawler", "crawler.frames")
        wait_until(lambda: notes(valkey, "seen"), "the other serves its own")
        assert valkey.client.hlen("blue:unacked") == 1

        valkey.client.set("patience", 0)
        again = Worker(APP, valkey.url, tmp_path / "again", CRAWLYARD_QUEUE_PREFIX="blue:", **quick)
        with running(again):
            wait_until(lambda: int(valkey.client.get("waits") or 0) >= 2, "the message is put back")
            pings = []
            for prefix in ("blue:", ""):
                options = {"global_keyprefix": prefix}
                with Celery(broker=valkey.url) as client:
                    client.conf.broker_transport_options = options
                    pings.append(client.control.ping(timeout=3))
    assert held != mine == notes(valkey, "seen")[0]["id"]
    assert [len(answers) for answers in pings] == [1, 1]


def test_a_producer_names_its_deployment_and_prefix(valkey: Valkey) -> None:
    """Its keyword arguments are the workers' settings."""
    producer = Producer(valkey.url, queue_prefix="blue:", deployment="blue")
    producer.publish("jobs.assign", {})
    producer.close()

    [message] = map(json.loads, valkey.client.lrange("blue:dispatch", 0, -1))
    assert message["headers"]["deployment"] == "blue"
    assert not valkey.client.exists("dispatch")
