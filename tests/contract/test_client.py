"""The producer for Python callers: a guest in somebody else's process."""

import subprocess
import sys

import pytest
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
producer.ring("jobs.assign")
assert current_app.main == "theirs", current_app.main
now = datetime(2026, 5, 4)
assert loads(*[(p := dumps({"at": now}, "json"))[2], p[0], p[1]]) == {"at": now}
print("a good guest")
"""


def test_the_producer_leaves_the_hosts_celery_unchanged(broker: str) -> None:
    """Neither the current app, nor kombu's JSON, nor its transport are replaced; no settings are needed."""
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
    """An error of the caller is an exception of the caller."""
    producer = Producer(broker)
    with pytest.raises(IllegalRequestError, match=r"no task jobs\.asign; there are jobs\.submit"):
        producer.ring("jobs.asign")
    with pytest.raises(ValidationError):
        producer.ring("jobs.cancel", job_ids=["a"], account_id="b")


def test_the_producer_fails_within_seconds_without_a_broker() -> None:
    """Nobody waits for a bell."""
    with pytest.raises(OperationalError):
        Producer("redis://127.0.0.1:9/0").ring("jobs.assign")
