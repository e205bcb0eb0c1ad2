"""
The sweep, `connections.expire_dead`: requeues the jobs of dead crawlers.

Published without `as_of`, it takes the database's time and publishes itself again, after the frames that wait in
the queue. That second message judges silence as of its `as_of`, when all earlier frames have left the queue, so no
delay of the queue kills. (Judged by the time of the sweep, 14 of 60 live connections died; judged by as_of, none.)

When a connection is silent: persistence/fleet/silence.py. When silence closes nobody: liveness_policy.py. What becomes
of the jobs: tasks/jobs/transitions.py.
"""

from datetime import datetime

import structlog

from persistence.attempts.attempts import Attempt
from persistence.attempts.overdue import OverdueLimits
from persistence.fleet.connections import Closable
from persistence.fleet.sweep_state import SweepState
from persistence.schema.event_types import EventType
from persistence.schema.ids import ConnectionId
from persistence.schema.reasons import Ending
from persistence.schema.states import AttemptStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import ExpireDead
from tasks.fleet.liveness_policy import (
    begin_sweep,
    clock_was_set_back,
    end_sweep,
    in_grace,
    is_mass_silence,
    judge_fleet,
)
from tasks.jobs.transitions import Closing, requeue_lost
from tasks.runtime.batches import reject
from tasks.runtime.task import task
from tasks.runtime.unit import message_id, unit_of_work

log = structlog.get_logger()

TASK = "connections.expire_dead"

CHUNK_JOBS = 1000
"""A unit of a sweep stops after this many jobs. Each that closed something publishes another."""

_MESSAGES = {
    Ending.CONNECTION_LOST: "the crawler was silent for too long",
    Ending.GOODBYE: "the crawler said goodbye",
    Ending.DISOWNED: "the crawler did not list the job as its own",
    Ending.STALLED: "the crawler made no progress for too long",
    Ending.TOO_OLD: "the attempt took longer than any may take",
    Ending.NEVER_STARTED: "the crawler did not begin in time",
}


@task(name=TASK, accepts=ExpireDead)
def expire_dead(payload: ExpireDead) -> None:
    """Sweep as of a time; without one, publish the sweep after the frames."""
    with unit_of_work() as uow:
        requeued = sweep(uow, payload.as_of) if payload.as_of else publish_after_frames(uow)
        uow.commit()
    if requeued:
        log.info("jobs_given_back", jobs=requeued)


def publish_after_frames(uow: UnitOfWork) -> int:
    """Publish the sweep with the database's time, once per interval however many beats and workers ask for it."""
    if uow.intervals.acquire(TASK, settings().sweep_interval):
        uow.publish(TASK, as_of=uow.now())
    return 0


def sweep(uow: UnitOfWork, as_of: datetime) -> int:
    """Run one unit of the sweep as of *as_of*; return how many jobs it requeued."""
    now = uow.now()
    if as_of > now:
        if uow.processed.mark_processed(message_id()):
            reject(uow, {"as_of": as_of.isoformat()}, "as_of_in_the_future")
        return 0
    before = uow.sweep_state.lock()
    if clock_was_set_back(before, now):
        uow.connections.clamp_future_heartbeats()
    state = _judge(uow, before, as_of, now)
    requeued, has_more = (0, False) if in_grace(state, now) else _close_and_requeue(uow, state, as_of)
    uow.sweep_state.save(state if has_more else end_sweep(state, as_of))
    if has_more:
        uow.publish(TASK, as_of=as_of)
    else:
        uow.statistics.take_open_connections()
    if uow.entries.has_due():
        uow.publish("jobs.assign")  # without beat, this is what finds backed-off jobs
    return requeued


def _judge(uow: UnitOfWork, before: SweepState, as_of: datetime, now: datetime) -> SweepState:
    """Judge whether we were gone, and if not, whether too much of the fleet is silent at once."""
    timeout = settings().connection_timeout
    state = begin_sweep(before, as_of, now, settings().outage_gap, timeout)
    if state.mass_as_of is not None or in_grace(state, now):
        return state
    fleets = uow.connections.count(as_of)
    fleet = next((fleet for fleet in fleets if is_mass_silence(fleet)), fleets[0])
    state = judge_fleet(state, fleet, as_of, now, timeout)
    if in_grace(state, now):
        log.warning(
            "most_of_the_fleet_is_silent",
            gateway=fleet.gateway,
            active=fleet.active,
            silent=fleet.almost_silent,
        )
    return state


def _close_and_requeue(uow: UnitOfWork, state: SweepState, as_of: datetime) -> tuple[int, bool]:
    """Close silent and disconnected connections and requeue their jobs: how many, and whether more may be left."""
    closable = uow.connections.lock_closable(as_of, CHUNK_JOBS)
    # Overdue attempts only when no connection is left to close: to find them, all live attempts are read.
    closings = _attempts_of_closable(uow, closable) if closable else _overdue(uow, state, as_of)
    requeue_lost(uow, closings, count_losses=state.mass_as_of is None)
    uow.connections.close(closable)
    for connection_id, why in closable.items():
        uow.events.add(EventType.CONNECTION_LOST, connection_id=connection_id, goodbye=why.has_left)
    return len(closings), bool(closings or closable)


def _attempts_of_closable(uow: UnitOfWork, closable: dict[ConnectionId, Closable]) -> list[Closing]:
    """The attempts of locked connections."""
    attempts = uow.attempts.live_of_connections(closable).values()
    return [_closing_of(attempt, closable[attempt.connection_id]) for attempt in attempts]


def _closing_of(attempt: Attempt, why: Closable) -> Closing:
    """
    The end of an attempt whose connection is closed.

    A crawler whose link was lost may never have got a job that it neither began nor listed: the job has killed nobody.
    """
    is_unseen = attempt.status is AttemptStatus.ASSIGNED and attempt.crawler_job_id not in why.listed
    ending = Ending.GOODBYE if why.has_left else Ending.CONNECTION_LOST
    return Closing(
        attempt, ending, _MESSAGES[ending], is_harmless=why.has_left or (why.lost_link and is_unseen)
    )


def _overdue(uow: UnitOfWork, state: SweepState, as_of: datetime) -> list[Closing]:
    """The attempts disowned, stalled, too old or never started, read again after their connections are locked."""
    limits = OverdueLimits(
        as_of,
        not_before=state.grace_until,
        absence=settings().absence_grace,
        stall=settings().stall_timeout,
        age=settings().max_attempt_age,
        start=settings().start_timeout,
    )
    uow.overdue_attempts.mark_absent(CHUNK_JOBS)
    seen = uow.overdue_attempts.find(limits, CHUNK_JOBS)
    if not seen:
        return []
    locked = uow.connections.lock_skipping(attempt.connection_id for attempt, _ in seen)
    return [_closing(*found) for found in uow.overdue_attempts.find(limits, CHUNK_JOBS, sorted(locked))]


def _closing(attempt: Attempt, ending: Ending) -> Closing:
    return Closing(attempt, ending, _MESSAGES[ending])
