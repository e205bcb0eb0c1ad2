"""Causes for which a live crawler might be taken for dead, each produced in a small system."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import psycopg
from ulid import ULID

from console.embedded.postgres import EmbeddedPostgres
from support.processes.beating_fleet import Death, HeartbeatFleet
from support.processes.little_system import MiniSystem
from support.processes.skewed import off
from support.processes.workers import wait_until
from support.worlds.world import NOW

START_S = 3
"""A worker needs about this long to start."""


_SWEEPS = """
    SELECT max(gap), COALESCE(percentile_cont(0.5) WITHIN GROUP (ORDER BY gap), 0), max(lag)
      FROM (SELECT extract(epoch FROM as_of - lag(as_of) OVER (ORDER BY as_of))::float8 AS gap,
                   extract(epoch FROM swept_at - as_of)::float8 AS lag
              FROM (SELECT as_of, min(swept_at) AS swept_at FROM sweep_log GROUP BY as_of) sweeps) times
"""


@dataclass(frozen=True)
class Sweeps:
    """The sweeps of a run; times in seconds of the database's clock."""

    longest_gap: float
    """The longest time between the as_of of two sweeps."""
    usual_gap: float
    stall: float
    """The longest delay by the machine: beyond the interval, and from publishing to sweeping."""


@dataclass(frozen=True)
class Outcome:
    """The result of one cause."""

    cause: str
    seconds: float
    """Its measured duration."""
    connections: int
    """Connections that kept sending heartbeats."""
    lost: list[str]
    """Those of them that wrongly lost a job."""
    deaths: dict[str, Death]
    """The others, which fell silent."""
    sweeps: Sweeps

    def __str__(self) -> str:
        delays = sorted(death.delay for death in self.deaths.values())
        told = f"{median(delays):6.1f} {delays[-1]:6.1f}" if delays else ""
        return (
            f"{self.cause:45} {self.seconds:7.1f} {self.connections:4} {len(self.lost):4} {told:14}"
            f" {self.sweeps.usual_gap:5.1f} {self.sweeps.stall:5.1f}"
        )


@dataclass
class Stage:
    """A system, its fleet, and its durations in seconds."""

    system: MiniSystem
    fleet: HeartbeatFleet

    @property
    def timeout(self) -> float:
        """The connection timeout."""
        return self.seconds("CONNECTION_TIMEOUT")

    @property
    def interval(self) -> float:
        """The sweep interval."""
        return self.seconds("SWEEP_INTERVAL")

    def seconds(self, setting: str) -> float:
        """A setting in seconds."""
        return float(self.system.settings[f"CRAWLYARD_{setting}"])

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the fleet, each crawler with a job, in a healthy system."""
        self.fleet.begin()
        with self.fleet.beating():
            self.system.is_well()
            yield

    def outcome(self, cause: str, *dead: str, seconds: float | None = None) -> Outcome:
        """Continue until the silent crawlers have expired and any other could have; then count."""
        self.system.has_gone_on(self.timeout + self.interval)
        wait_until(
            lambda: self.fleet.deaths().keys() >= {*dead},
            f"{self.system.name}: the dead are found",
            2 * self.timeout + 60,
        )
        beating = len(self.fleet.ids) - len(self.fleet.silent)
        sweeps = self._sweeps()
        length = sweeps.longest_gap if seconds is None else seconds
        return Outcome(cause, length, beating, self.fleet.lost(), self.fleet.deaths(), sweeps)

    def _sweeps(self) -> Sweeps:
        ((longest, usual, lag),) = self.system.rows(_SWEEPS)
        return Sweeps(longest, usual, max(0.0, longest - self.interval) + lag)


def workers_away(stage: Stage, timeouts: float, *, wiped: bool, beat_too: bool = False) -> Outcome:
    """Stop all workers and start others later; with *beat_too* also beat, all at once."""
    system = stage.system
    commands = ["worker --concurrency 1"] + ["beat"] * beat_too
    running = [system.start(command) for command in commands]
    with stage.running():
        dead = stage.fleet.ids[0]
        stage.fleet.fall_silent(dead)
        system.is_swept()
        stopped = time.monotonic()
        system.stop(*running)
        time.sleep(max(0.0, timeouts * stage.timeout - START_S - (time.monotonic() - stopped)))
        if wiped:
            system.broker.flushdb()
        for command in commands:
            system.start(command)
        system.is_swept()
        what = "workers and beat" if beat_too else "workers"
        how = "Redis wiped" if wiped else "beats kept"
        return stage.outcome(f"{what} away, {how}", dead)


def database_away(stage: Stage, server: EmbeddedPostgres) -> Outcome:
    """Stop the database for two timeouts; requeued messages end up after a sweep."""
    stage.system.start("worker --concurrency 2")
    with stage.running():
        dead = stage.fleet.ids[0]
        stage.fleet.fall_silent(dead)
        stage.system.is_swept()
        server.stop("immediate")
        time.sleep(2 * stage.timeout)
        server.start()
        stage.system.is_swept()
        return stage.outcome("database away", dead)


def beats_overtaken(stage: Stage, frames: int, frames_a_message: int) -> Outcome:
    """
    Two workers with two children each, and heartbeats that sweeps overtake, or that wait long in the queue.

    First one child waits for a locked row with heartbeats while sweeps run in another. Then heartbeats wait after a
    flood of frames from a connection that is silent afterwards.
    """
    system = stage.system
    noisy = str(ULID())
    for _ in range(2):
        system.start("worker --concurrency 2")
    with stage.running():
        with psycopg.connect(system.database_url) as peer:
            lock = "SELECT FROM socket_connection WHERE id = %s FOR NO KEY UPDATE"
            peer.execute(lock, [stage.fleet.ids[0]])
            system.has_gone_on(stage.timeout / 2)
        system.publish("connections.register", connection_id=noisy, capacity=1)
        frame = {"connection_id": noisy, "frame": {"type": "heartbeat", "timestamp": NOW, "data": {}}}
        message = {"frames": [frame] * frames_a_message}
        system.publish_many("crawler.frames", [message] * (frames // frames_a_message))
        began = time.monotonic()
        wait_until(lambda: system.broker.llen("crawler") < 10, f"{system.name}: the flood has passed", 900)
        cause = f"{frames} frames, {frames_a_message} a message"
        return stage.outcome(cause, noisy, seconds=time.monotonic() - began)


def clocks_off(stage: Stage, beats: tuple[float, ...]) -> Outcome:
    """One worker's clock is an hour ahead and another's an hour behind, and so are those of successive beats."""
    system = stage.system
    for seconds in (3600, -3600):
        system.start("worker --concurrency 1", **off(seconds))
    with stage.running():
        dead = stage.fleet.ids[0]
        stage.fleet.fall_silent(dead)
        for seconds in beats:
            beat = system.start("beat", **off(seconds))
            system.has_gone_on(stage.timeout)
            system.stop(beat)
        return stage.outcome("clocks of workers and beat an hour off", dead, seconds=3600)


def gateway_cut_off(stage: Stage) -> Outcome:
    """Three times: heartbeats are lost, arrive late, and are lost for almost a timeout."""
    stage.system.start("worker --concurrency 1")
    with stage.running():
        dead = stage.fleet.ids[:3]
        stage.fleet.fall_silent(*dead)
        stage.fleet.cut_off(stage.timeout / 3)
        stage.fleet.cut_off(stage.timeout / 3, late=True)
        longest = 0.8 * stage.timeout
        stage.fleet.cut_off(longest)
        return stage.outcome("gateway cut off", *dead, seconds=longest)


def crawlers_die(stage: Stage) -> Outcome:
    """All crawlers fall silent one after another, with no beat and no other message."""
    stage.system.start("worker --concurrency 1")
    with stage.running():
        for id_ in stage.fleet.ids:
            stage.fleet.fall_silent(id_)
            time.sleep(stage.interval / 3)
        return stage.outcome("crawlers die, no beat, no other message", *stage.fleet.ids)
