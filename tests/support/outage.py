"""Simulates an outage in virtual time: crawlers that send heartbeats, a worker that is away, and their queue."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from support.worlds.world import Crawler, World

SWEEP = "connections.expire_dead"
BEAT = "connections.heartbeat"

STEP_S = 5
"""Virtual time. Half a sweep interval: crawlers in six groups send heartbeats in turn, every thirty seconds."""

_AGE = """
    WITH spoke AS (
        UPDATE socket_connection SET last_heartbeat = last_heartbeat - CAST(:age AS interval),
                                     reported_at = reported_at - CAST(:age AS interval)
         WHERE is_active
    ), worked AS (
        UPDATE job_assignment_mapping SET assigned_at = assigned_at - CAST(:age AS interval),
                                          absent_since = absent_since - CAST(:age AS interval)
         WHERE completed_at IS NULL
    ), rang AS (
        UPDATE periodic_ring SET rung_at = rung_at - CAST(:age AS interval)
    )
    UPDATE liveness_state SET last_sweep_at = last_sweep_at - CAST(:age AS interval),
                              grace_until = grace_until - CAST(:age AS interval),
                              mass_waited_at = mass_waited_at - CAST(:age AS interval)
"""

_BEGIN = """
    WITH swept AS (
        UPDATE liveness_state SET last_sweep_at = clock_timestamp() - make_interval(secs => :since_sweep),
                                  grace_until = NULL, mass_waited_at = NULL, mass_as_of = NULL
    ), worked AS (
        UPDATE job_assignment_mapping SET assigned_at = clock_timestamp() - interval '5 minutes',
                                          progressed_at = clock_timestamp(), absent_since = NULL
         WHERE completed_at IS NULL
    ), rang AS (
        UPDATE periodic_ring SET rung_at = clock_timestamp() - make_interval(secs => :since_sweep)
    )
    UPDATE socket_connection SET last_heartbeat = clock_timestamp() - make_interval(secs => said.ago)
      FROM unnest(CAST(:ids AS text[]), CAST(:ago AS float[])) AS said(id, ago)
     WHERE socket_connection.id = said.id
"""


@dataclass(frozen=True)
class Outage:
    """One outage; times in seconds of virtual time."""

    seconds: int
    wiped: bool
    """True if all messages in the queue are lost."""
    since_sweep: int
    """The time between the last sweep and the outage."""
    overtaken: bool
    """True if each sweep overtakes the heartbeats queued before it, as if another child processed these."""


@dataclass
class Line:
    """Crawlers, their queue, and a worker that processes all of it at once, or is away."""

    world: World
    beating: dict[str, list[str]]
    """The orders of each crawler, by connection."""
    dead: Crawler
    clock: int = 0
    queue: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    published_at: int = 0

    def begin(self, outage: Outage, dead_for: int) -> None:
        """Set up a healthy past: each crawler has sent its heartbeat in time, and the last sweep is as old as given."""
        self.clock, self.published_at, self.queue = 0, -outage.since_sweep, []
        said = {id_: float(n * STEP_S) for n, id_ in enumerate(self.beating)} | {
            self.dead.id: float(dead_for)
        }
        self.world.rows(_BEGIN, since_sweep=outage.since_sweep, ids=list(said), ago=list(said.values()))

    def pass_time(self, seconds: int) -> None:
        """Make all times in the database and in queued messages older."""
        self.world.rows(_AGE, age=timedelta(seconds=seconds))
        self.clock += seconds
        for _, payload in self.queue:
            if "as_of" in payload:
                payload["as_of"] -= timedelta(seconds=seconds)

    def publish(self, sweep_interval: int) -> None:
        """Queue the heartbeats of the group whose turn it is, and a sweep if one is due."""
        turns = len(self.beating)
        # Crawler n sent its last heartbeat n steps before the beginning.
        beats = [
            {"connection_id": id_, "active_jobs": orders}
            for n, (id_, orders) in enumerate(self.beating.items())
            if (self.clock // STEP_S + n) % turns == 0
        ]
        self.queue.append((BEAT, {"beats": beats}))
        if self.clock - self.published_at >= sweep_interval:
            self.published_at = self.clock
            self.queue.append((SWEEP, {}))

    def work(self, *, overtaken: bool) -> None:
        """Process the queue until it is empty."""
        while self.queue:
            task, payload = self.queue.pop(0)
            if overtaken and task == BEAT and self.queue and "as_of" in self.queue[0][1]:
                self.queue.insert(1, (task, payload))
                continue
            self.world.published.messages.clear()
            self.world.deliver(task, **_plain(payload))
            self.queue += [(SWEEP, dict(message)) for message in self.world.published.of(SWEEP)]


def _plain(payload: dict[str, Any]) -> dict[str, Any]:
    return {k: v.isoformat() if k == "as_of" else v for k, v in payload.items()}


def released_after(line: Line, outage: Outage, sweep_interval: int, until: int) -> int | None:
    """Simulate the outage and the time after it; returns when the dead crawler's jobs were requeued."""
    for _ in range(0, outage.seconds, STEP_S):
        line.clock += STEP_S
        line.publish(sweep_interval)
    line.clock = 0
    line.pass_time(outage.seconds)
    if outage.wiped:
        line.queue.clear()
    released = None
    while line.clock < until:
        line.work(overtaken=outage.overtaken)
        if released is None and not line.dead.row().is_active:
            released = line.clock
        line.pass_time(STEP_S)
        line.publish(sweep_interval)
    return released


def outages(seconds: Iterable[int]) -> list[Outage]:
    """All variants of an outage of each length."""
    return [
        Outage(length, wiped, since_sweep, overtaken)
        for length in seconds
        for wiped in (False, True)
        for since_sweep in (0, STEP_S)
        for overtaken in (False, True)
    ]
