"""
Workers and their child processes are killed with SIGKILL during a task.

The message is redelivered, by the worker that lost its child or from the broker's unacknowledged messages, and
leaves what an undisturbed delivery leaves.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from proofs.crashes.runs import Runs
from proofs.crashes.scenario import MESSAGE, Scenario
from proofs.crashes.test_every_point import named
from support.crashes import Death
from support.depth import deep
from support.processes.workers import Worker, envelope, wait_until
from support.worlds.world import World

pytestmark = [pytest.mark.programs, pytest.mark.timeout(900)]

QUIET = {"CRAWLYARD_CONNECTION_TIMEOUT": "90000", "CRAWLYARD_SWEEP_INTERVAL": "36000"}
"""Settings with which no worker publishes a sweep meanwhile."""

MOMENTS = {Death.PROCESS_BEFORE: "before", Death.PROCESS_AFTER: "after"}

CRAWLER = ("crawler.frames", "connections.expire_dead", "failures.log")
"""The published tasks that are delivered; those of other queues stay in their queues."""


@dataclass
class Killer:
    """A worker on the queue `crawler`, and how to kill it."""

    runs: Runs
    broker: Redis
    url: str
    log: Path
    worker: Worker | None = None
    children_lost: int = 0

    def undisturbed(self) -> dict[str, int]:
        """Return the rows after an undisturbed delivery of the message and of what it publishes."""
        self.runs.begin()
        self.runs.deliver()
        self.runs.deliver_published(CRAWLER)
        return self.runs.take_picture().rows

    def kill(self, whom: str, at: int, death: Death) -> dict[str, int]:
        """Return the rows after the process that takes the message is killed at this point."""
        self.runs.begin()
        self.broker.flushdb()
        task, payload = self.runs.scenario.task, self.runs.payload
        self.broker.hset("crash", mapping={"task": task, "at": at, "moment": MOMENTS[death], "whom": whom})
        self._start()
        self.broker.sadd("rung", MESSAGE)
        self.broker.lpush("crawler", json.dumps(envelope(task, payload, headers={"id": MESSAGE})))
        wait_until(lambda: not self.broker.exists("crash"), "it was killed")
        self._see_it_dead(whom)
        wait_until(self._is_idle, "the message was handled, and what it rang")
        return self.runs.take_picture().rows

    def _see_it_dead(self, whom: str) -> None:
        """Wait until the worker logs a lost child, or the worker has died and another one is started."""
        assert self.worker
        if whom == "child":
            self.children_lost += 1
            output = self.worker.output
            wait_until(lambda: output().count("child_lost") == self.children_lost, "its worker noticed")
        else:
            assert self.worker.wait() == -signal.SIGKILL
            self.close()
            self._start()

    def _is_idle(self) -> bool:
        """Return True if all published tasks have ended; an empty queue may be one whose message was just taken."""
        return not self.broker.sdiff("rung", "ended") and not self.broker.exists("crawler", "unacked")

    def close(self) -> None:
        """End the worker, if it runs."""
        if self.worker:
            self.worker.close()
        self.worker = None

    def _start(self) -> None:
        if not self.worker:
            url = os.environ["DATABASE_URL"]
            app = "support.processes.crashing_app"
            self.worker = Worker(app, self.url, self.log, queues="crawler", DATABASE_URL=url)


@contextmanager
def killer(
    name: str, world: World, broker: str, log: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Killer]:
    """Return a killer for the scenario of this name."""
    for setting, value in QUIET.items():
        monkeypatch.setenv(setting, value)
    scenario = named(name)
    quiet = Scenario(scenario.name, scenario.task, scenario.set_up, settings=scenario.settings | QUIET)
    with Runs.of(quiet, world, monkeypatch) as runs, Redis.from_url(broker, decode_responses=True) as client:
        killer = Killer(runs, client, broker, log)
        try:
            yield killer
        finally:
            killer.close()


def places(runs: Runs) -> list[tuple[int, Death]]:
    """Return a death before each point and after each COMMIT; in the short form only some of them."""
    points = [(point.number, Death.PROCESS_BEFORE) for point in runs.points]
    commits = [(point.number, Death.PROCESS_AFTER) for point in runs.points if point.is_commit]
    return points + commits if deep() else [points[0], points[len(points) // 2], points[-1], commits[-1]]


@pytest.mark.parametrize("name", ["completion", "silence_and_disconnects", "errors"])
def test_the_message_of_a_killed_child_is_run_again(
    name: str, world: World, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker runs the message of a killed child again, once, with the same result."""
    with killer(name, world, broker, tmp_path / "worker", monkeypatch) as killing:
        undisturbed = killing.undisturbed()
        for at, death in places(killing.runs):
            assert killing.kill("child", at, death) == undisturbed, (at, death)


@pytest.mark.gate
def test_the_message_of_a_killed_worker_goes_to_the_next_worker(
    world: World, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next worker gets the message after the visibility timeout."""
    with killer("completion", world, broker, tmp_path / "worker", monkeypatch) as killing:
        undisturbed = killing.undisturbed()
        chosen = places(killing.runs)
        for at, death in chosen if deep() else chosen[-1:]:
            assert killing.kill("worker", at, death) == undisturbed, (at, death)
