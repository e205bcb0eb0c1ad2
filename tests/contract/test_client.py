"""The producer for Python callers, used inside a web app with a Celery of its own."""

import json
import subprocess
import sys

import pytest
import redis
from kombu.exceptions import OperationalError
from pydantic import ValidationError

from persistence.exceptions import IllegalRequestError
from tasks.client import Producer

IN_A_WEB_APP = """
import sys
from celery import Celery, current_app
from kombu.serialization import dumps, loads
theirs = Celery("theirs", broker=sys.argv[1], set_as_current=True)
theirs.send_task("theirs.task", queue="theirs")
from datetime import datetime
from tasks.client import Producer
producer = Producer(sys.argv[1])
producer.publish("jobs.assign", {})
assert current_app.main == "theirs", current_app.main
now = datetime(2026, 5, 4)
assert loads(*[(p := dumps({"at": now}, "json"))[2], p[0], p[1]]) == {"at": now}
print("a good guest")
"""


def test_the_producer_leaves_the_hosts_celery_unchanged(broker: str) -> None:
    """The producer replaces neither the current app nor kombu's JSON and transport, and needs no settings."""
    result = subprocess.run(
        [sys.executable, "-c", IN_A_WEB_APP, broker],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path)},
        check=False,
    )
    assert (result.returncode, result.stdout.strip()) == (0, "a good guest"), result.stderr


def test_an_unknown_task_or_invalid_payload_is_refused_before_sending(broker: str) -> None:
    """The caller's errors are raised to the caller; nothing is sent."""
    producer = Producer(broker)
    with pytest.raises(IllegalRequestError, match=r"no task jobs\.asign; there are jobs\.submit"):
        producer.publish("jobs.asign", {})
    with pytest.raises(ValidationError):
        producer.publish("jobs.cancel", {"job_ids": ["a"], "account_id": "b"})


def test_the_producer_fails_within_seconds_without_a_broker() -> None:
    """A caller never waits long for a broker that is away."""
    with pytest.raises(OperationalError):
        Producer("redis://127.0.0.1:9/0").publish("jobs.assign", {})


def test_ring_publishes_with_a_deprecation_warning(broker: str) -> None:
    """Callers of the former name keep working, and learn the new one."""
    producer = Producer(broker)
    with pytest.warns(DeprecationWarning, match="publish"):
        id_ = producer.ring("jobs.cancel", job_ids=["a"])

    with redis.Redis.from_url(broker) as client:
        (message,) = client.lrange("dispatch", 0, -1)
    assert json.loads(message)["headers"]["id"] == id_
