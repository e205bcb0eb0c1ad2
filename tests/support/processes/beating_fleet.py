"""Crawlers that only send heartbeats: each has a job, and stays alive until it must fall silent."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ulid import ULID

from support.processes.little_system import MiniSystem
from support.processes.workers import wait_until
from support.worlds.world import NOW

TURNS = 3
"""Heartbeat messages per interval; each contains a different part of the fleet."""

_LIVE = "SELECT connection_id, crawler_job_id FROM crawler_order ORDER BY 1"


@dataclass(frozen=True)
class Death:
    """How the jobs of a dead crawler were requeued, in seconds of the database's clock."""

    delay: float
    """From its last heartbeat until its jobs were requeued."""
    by_first_sweep: bool
    """True if the first sweep whose as_of was late enough did it."""


class HeartbeatFleet:
    """Connections with one job each."""

    def __init__(self, system: MiniSystem, crawlers: int) -> None:
        self._system = system
        self._interval = float(system.settings["CRAWLYARD_HEARTBEAT_INTERVAL"])
        self._timeout = float(system.settings["CRAWLYARD_CONNECTION_TIMEOUT"])
        self.ids = [str(ULID()) for _ in range(crawlers)]
        self.silent: set[str] = set()
        self.jobs: dict[str, str] = {}
        self._is_cut = threading.Event()
        self._ends = threading.Event()
        self._is_late = False
        self._unsent: list[list[dict[str, Any]]] = []

    def begin(self) -> None:
        """Register all crawlers, and wait until each has started a job."""
        self._system.publish_many(
            "connections.register", [{"connection_id": id_, "capacity": 1} for id_ in self.ids]
        )
        count = "SELECT count(*) FROM socket_connection"
        wait_until(
            lambda: self._system.one(count) == len(self.ids), f"{self._system.name}: all are registered", 120
        )
        self._system.publish("jobs.submit", orders=[_order() for _ in self.ids])
        wait_until(lambda: len(self.live()) == len(self.ids), f"{self._system.name}: all have a job", 240)
        self.jobs = self.live()
        started = [
            {"type": "job_started", "timestamp": NOW, "jobId": job, "data": {}} for job in self.jobs.values()
        ]
        frames = [
            {"connection_id": id_, "frame": frame} for id_, frame in zip(self.jobs, started, strict=True)
        ]
        self._system.publish("crawler.frames", frames=frames)
        running = "SELECT count(*) FROM job WHERE status = 'running'"
        wait_until(lambda: self._system.one(running) == len(self.ids), f"{self._system.name}: all work", 240)

    def live(self) -> dict[str, str]:
        """The job of each connection."""
        return dict(self._system.rows(_LIVE))

    def lost(self) -> list[str]:
        """Connections that kept sending heartbeats but lost their job or were closed."""
        active = {id_ for (id_,) in self._system.rows("SELECT id FROM socket_connection WHERE is_active")}
        jobs = self.live()
        beating = [id_ for id_ in self.ids if id_ not in self.silent]
        return [id_ for id_ in beating if id_ not in active or jobs.get(id_) != self.jobs[id_]]

    def fall_silent(self, *ids: str) -> None:
        """Stop the heartbeats of these connections."""
        self.silent.update(ids)

    def cut_off(self, seconds: float, *, late: bool = False) -> None:
        """Cut the gateway off; its heartbeats arrive *late* or never. All send one just before and after."""
        self._beat(self.ids)
        self._unsent, self._is_late = [], late
        self._is_cut.set()
        time.sleep(seconds)
        self._is_cut.clear()
        for beats in self._unsent:
            self._send(beats)
        self._beat(self.ids)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Send heartbeats at the interval, for one part of the fleet after the other."""
        thread = threading.Thread(target=self._go_on)
        thread.start()
        try:
            yield
        finally:
            self._ends.set()
            thread.join()

    def deaths(self) -> dict[str, Death]:
        """The deaths of the crawlers that fell silent."""
        rows = self._system.rows(
            """
            SELECT connection_id, extract(epoch FROM ended_at - last_heartbeat)::float8,
                   (SELECT min(as_of) FROM sweep_log
                     WHERE as_of > last_heartbeat + make_interval(secs => %s)) = sweep_log.as_of
              FROM end_log JOIN sweep_log USING (xid)
            """,
            1.01 * self._timeout,  # the sweep allows for a heartbeat that was not written
        )
        return {id_: Death(delay, is_first) for id_, delay, is_first in rows}

    def _go_on(self) -> None:
        turn, due = 0, time.monotonic()
        while not self._ends.wait(max(0.0, due - time.monotonic())):
            self._beat(self.ids[turn % TURNS :: TURNS])
            turn, due = turn + 1, due + self._interval / TURNS

    def _beat(self, ids: list[str]) -> None:
        beats = [
            {"connection_id": id_, "active_jobs": [self.jobs[id_]]} for id_ in ids if id_ not in self.silent
        ]
        if not self._is_cut.is_set():
            self._send(beats)
        elif self._is_late:
            self._unsent.append(beats)

    def _send(self, beats: list[dict[str, Any]]) -> None:
        self._system.publish("connections.heartbeat", beats=beats)


def _order() -> dict[str, Any]:
    return {
        "account_id": "acc",
        "provider": "gitlab-cloud",
        "gitlab_host": "gitlab.example.org",
        "command": "project",
        "namespace_path": f"group/project-{ULID()}",
        "web_app_job_id": str(ULID()),
    }
