"""Remote control, which any client of the broker may use, neither stops a worker nor loses a message."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import gethostname
from threading import Event, Thread
from typing import Any

import pytest
from celery import Celery

from persistence.version import version
from support.processes.workers import ROOT, Valkey, Worker, envelope, running, wait_until
from tasks.worker.remote_control import WorkerAnswer, ask_workers

pytestmark = pytest.mark.programs

CHANNEL = "/0.celery.pidbox"


def control(command: Any, **changes: Any) -> str:
    """A control message, as kombu publishes it; *changes* replace its parts."""
    made = {
        "body": base64.b64encode(json.dumps(command).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"clock": 1, "expires": None},
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
            "delivery_tag": "x",
        },
    }
    return json.dumps(made | changes)


PING = {"method": "ping", "arguments": {}}

MALFORMED = [
    *("{", "5", "[1]", "null", "{}", "[" * 5_000, "9" * 5_000, '"x"'),
    control(PING, properties=[1]),
    control(PING, properties={}),
    control(PING, body="abc"),
    control(PING, body=5),
    control(PING, headers=[1]),
    control(PING, headers={"clock": "x"}),
    control(PING, headers={"expires": "x"}),
    control(PING, **{"content-type": "application/x-python-serialize"}),
    control(PING, **{"content-type": ["x"]}),
    control(PING, **{"content-encoding": "klingon"}),
    *(control(body) for body in ([1], 5, None, {}, {"method": "nope", "arguments": {}})),
    *(
        control(PING | part)
        for part in ({"arguments": [1]}, {"reply_to": 5}, {"destination": 5}, {"ticket": []})
    ),
    control(PING | {"method": {"__type__": "x", "__value__": 1}}),
]

REFUSED = {
    "revoke": {"task_id": "abc", "terminate": True},
    "hello": {"from_node": "nobody", "revoked": ["abc"]},
    "rate_limit": {"task_name": "crawler.frames", "rate_limit": "1/d"},
    "time_limit": {"task_name": "crawler.frames", "hard": 1e-6},
    "cancel_consumer": {"queue": "crawler"},
    "pool_shrink": {"n": 1},
    "autoscale": {"max": 0, "min": 0},
    "enable_events": {},
}


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """The server of all tests."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    with running(server):
        yield server


@pytest.fixture(scope="module")
def worker(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for all tests: it must survive every message."""
    process = Worker("support.processes.worker_app", valkey.url, tmp_path_factory.mktemp("worker") / "log")
    with running(process):
        yield process


@pytest.fixture(scope="module")
def operator(valkey: Valkey) -> Iterator[Celery]:
    """A client of the broker that uses kombu's own transport, not our app."""
    with Celery("operator", broker=valkey.url, set_as_current=False) as app:
        app.conf.broker_transport = "kombu.transport.redis:Transport"
        yield app


@contextmanager
def older_worker(app: Celery) -> Iterator[None]:
    """What of a worker of 0.4.1 answers remote control: its statistics have no version."""
    ended = Event()

    def answer() -> None:
        with app.connection_for_write() as connection:
            node = app.control.mailbox.Node(
                "older@host", handlers={"stats": lambda *_, **__: {"pid": 1}}, state=None
            )
            node.channel = connection.default_channel
            with node.listen():
                listening.set()
                while not ended.is_set():
                    with suppress(TimeoutError):
                        connection.drain_events(timeout=0.1)

    listening = Event()
    thread = Thread(target=answer)
    thread.start()
    assert listening.wait(10)
    try:
        yield
    finally:
        ended.set()
        thread.join()


def assert_is_well(valkey: Valkey, worker: Worker, operator: Celery) -> None:
    """Check that the worker has read all earlier messages, answers, and processes one with the id `abc`."""
    wait_until(lambda: operator.control.ping(timeout=1, limit=1), "it answers")
    valkey.client.delete("seen")
    valkey.client.lpush("crawler", json.dumps(envelope("crawler.frames", headers={"id": "abc"})))
    wait_until(lambda: valkey.client.llen("seen"), "it consumes")
    wait_until(lambda: not valkey.client.exists("crawler", "unacked"), "it acknowledges")
    assert worker.lives()


@pytest.mark.gate
def test_a_malformed_control_message_is_dropped(valkey: Valkey, worker: Worker, operator: Celery) -> None:
    """No worker ends, loses its broker connection, or stores the message as rejected."""
    for text in MALFORMED:
        valkey.client.publish(CHANNEL, text)
        assert_is_well(valkey, worker, operator)

    assert "Unrecoverable" not in worker.output()
    assert "Connection to broker lost" not in worker.output()
    assert valkey.client.llen("kept") == 0


@pytest.mark.parametrize("command", REFUSED)
def test_control_commands_that_stop_workers_or_drop_messages_are_disabled(
    command: str, valkey: Valkey, worker: Worker, operator: Celery
) -> None:
    """The command is answered with an error, and the worker continues to process messages."""
    (answer,) = operator.control.broadcast(
        command, arguments=REFUSED[command], reply=True, limit=1, timeout=30
    )

    assert [list(reply) for reply in answer.values()] == [["error"]]
    assert_is_well(valkey, worker, operator)


def test_allowed_control_commands_are_answered(worker: Worker, operator: Celery) -> None:
    """The commands of `celery inspect` work."""
    inspect = operator.control.inspect(timeout=30, limit=1)

    assert [queue["name"] for (queues,) in [inspect.active_queues().values()] for queue in queues]
    for ask in (inspect.stats, inspect.conf, inspect.registered, inspect.clock):
        assert ask()
    for ask in (inspect.active, inspect.reserved, inspect.scheduled, inspect.revoked):
        assert [list(answer) for answer in ask().values()] == [[]]


def test_a_worker_tells_its_version_and_an_older_one_does_not(
    valkey: Valkey, worker: Worker, operator: Celery
) -> None:
    """Both are idle and have no attempts by which they could be told apart."""
    ours = WorkerAnswer(f"celery@{gethostname()}", version())
    assert ask_workers(operator) == [ours]

    with older_worker(operator):
        assert ask_workers(operator) == [ours, WorkerAnswer("older@host", None)]
    assert ask_workers(operator) == [ours]


def test_a_broker_without_workers_is_not_asked(valkey: Valkey, operator: Celery) -> None:
    """Nobody listens in its other database, so there is no answer to wait for."""
    with Celery("operator", broker=f"{valkey.url[:-1]}5", set_as_current=False) as app:
        app.conf.broker_transport = "kombu.transport.redis:Transport"
        assert ask_workers(app) == []


def test_our_own_app_receives_the_answers(valkey: Valkey, worker: Worker) -> None:
    """Answers are not sealed or rejected like messages of our queues."""
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "support.processes.worker_app",
        "inspect",
        "ping",
        "--timeout",
        "30",
        # Without a destination it waits until its time is up, for answers of other workers.
        "--destination",
        f"celery@{gethostname()}",
    ]
    variables = {"BROKER_URL": valkey.url, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    variables["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:9/nothing"

    asked = subprocess.run(
        command, check=False, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True
    )

    assert (asked.returncode, "pong" in asked.stdout) == (0, True)
