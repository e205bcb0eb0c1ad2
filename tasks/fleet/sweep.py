"""
The sweep: `connections.expire_dead` gives the jobs of dead crawlers back.

Rung without `as_of` it takes the database's time and rings itself at the tail of the words; there,
behind everything that was said before, it judges silence as of then. So no delay of the queue kills
(judged by the time of the sweep, 14 of 60 beating connections died; as of its ring, none).

Our own outage is nobody's death: after a gap between sweeps, nothing is taken for one timeout.
"""

from dataclasses import replace
from datetime import datetime

import structlog

from persistence.attempts.attempts import Attempt, OverdueLimits
from persistence.fleet.sweep_state import SweepState
from persistence.schema.event_types import EventType
from persistence.schema.ids import ConnectionId
from persistence.schema.reasons import Ending
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import ExpireDead
from tasks.jobs.transitions import Closing, requeue_lost
from tasks.runtime.batches import reject
from tasks.runtime.task import task
from tasks.runtime.unit import message_id, unit_of_work

log = structlog.get_logger()

TASK = "connections.expire_dead"

CHUNK_JOBS = 1000
"""Jobs that one unit of a sweep gives back at most; more rings again."""

MIN_FLEET_FOR_MASS_SILENCE = 10
"""From so many active connections on, more than half of them silent at once is a deploy, not deaths."""

_MESSAGES = {
    Ending.CONNECTION_LOST: "the crawler was silent for too long",
    Ending.GOODBYE: "the crawler said goodbye",
    Ending.DISOWNED: "the crawler did not list the job as its own",
    Ending.STALLED: "the crawler made no progress for too long",
    Ending.NEVER_STARTED: "the crawler did not begin in time",
}


@task(name=TASK, accepts=ExpireDead)
def expire_dead(payload: ExpireDead) -> None:
    """Ring the sweep behind the words, or sweep."""
    with unit_of_work() as uow:
        requeued = sweep(uow, payload.as_of) if payload.as_of else publish_after_frames(uow)
        uow.commit()
    if requeued:
        log.info("jobs_given_back", jobs=requeued)


def publish_after_frames(uow: UnitOfWork) -> int:
    """Ring the sweep with the database's time; many beats and many workers' timers are as one."""
    if uow.intervals.acquire(TASK, settings().sweep_interval):
        uow.publish(TASK, as_of=uow.now())
    return 0


def sweep(uow: UnitOfWork, as_of: datetime) -> int:
    """One unit of the sweep as of *as_of*; how many jobs it gave back."""
    now = uow.now()
    if as_of > now:
        if uow.processed.mark_processed(message_id()):
            reject(uow, {"as_of": as_of.isoformat()}, "as_of_in_the_future")
        return 0
    before = uow.sweep_state.lock()
    if before.last_sweep_at and before.last_sweep_at > now:
        uow.connections.clamp_future_heartbeats()
    state = _updated_state(uow, before, as_of, now)
    requeued, more = 0, False
    if state.grace_until is None or state.grace_until <= now:
        requeued, more = _close_and_requeue(uow, state, as_of)
    if not more and (state.mass_as_of is None or as_of >= state.mass_as_of):
        state = replace(state, mass_as_of=None)  # but not by an older sweep that comes late
    uow.sweep_state.save(state)
    if more:
        uow.publish(TASK, as_of=as_of)
    if uow.entries.has_due():
        uow.publish("jobs.assign")  # where beat is silent, this is what finds backed-off jobs
    return requeued


def _updated_state(uow: UnitOfWork, state: SweepState, as_of: datetime, now: datetime) -> SweepState:
    """The state with this sweep in it: were we gone, and are too many silent at once?"""
    timeout = settings().connection_timeout
    if _was_outage(state.last_sweep_at, as_of, now):
        state = replace(state, grace_until=now + timeout)
    state = replace(state, last_sweep_at=_latest(state.last_sweep_at, as_of, now))
    if state.mass_as_of is not None or (state.grace_until and state.grace_until > now):
        return state
    # A dead gateway's crawlers cross the timeout one after another, within one interval of beating.
    silence = settings().longest_silence
    fleet = uow.connections.count_silent(as_of, silence, silence - settings().heartbeat_interval)
    if not fleet.silent or fleet.active < MIN_FLEET_FOR_MASS_SILENCE or 2 * fleet.missing <= fleet.active:
        return replace(state, mass_waited_at=None)
    if state.mass_waited_at is None:
        log.warning("most_of_the_fleet_is_silent", active=fleet.active, silent=fleet.missing)
        return replace(state, mass_waited_at=now, grace_until=now + timeout)
    return replace(state, mass_as_of=as_of)


def _was_outage(last: datetime | None, as_of: datetime, now: datetime) -> bool:
    """Whether it is too long since the last sweep, or unknown how long."""
    return last is None or last > now or as_of - last > settings().outage_gap


def _latest(last: datetime | None, as_of: datetime, now: datetime) -> datetime:
    """The newest sweep; one in the future is of a clock that was set back."""
    return as_of if last is None or last > now else max(last, as_of)


def _close_and_requeue(uow: UnitOfWork, state: SweepState, as_of: datetime) -> tuple[int, bool]:
    """Close what is due and give its jobs back; how many, and whether there may be more."""
    closable = uow.connections.lock_closable(as_of, settings().longest_silence, CHUNK_JOBS)
    # The overdue when nobody is leaving any more: to find them, all live attempts are read.
    closings = _attempts_of_closable(uow, closable) if closable else _overdue(uow, state, as_of)
    requeue_lost(uow, closings, count_losses=state.mass_as_of is None)
    uow.connections.close(closable)
    for connection_id, disconnected in closable.items():
        uow.events.add(EventType.CONNECTION_LOST, connection_id=connection_id, goodbye=disconnected)
    return len(closings), bool(closings or closable)


def _attempts_of_closable(uow: UnitOfWork, closable: dict[ConnectionId, bool]) -> list[Closing]:
    """The attempts of connections that leave, which are locked; the value says whether they said goodbye."""
    return [
        _closing(attempt, Ending.GOODBYE if closable[attempt.connection_id] else Ending.CONNECTION_LOST)
        for attempt in uow.attempts.live_of_connections(closable).values()
    ]


def _overdue(uow: UnitOfWork, state: SweepState, as_of: datetime) -> list[Closing]:
    """Attempts disowned, stalled or never started; their connections are locked, then they are read again."""
    limits = OverdueLimits(
        as_of,
        not_before=state.grace_until,
        absence=settings().absence_grace,
        stall=settings().stall_timeout,
        start=settings().start_timeout,
    )
    uow.attempts.mark_absent(CHUNK_JOBS)
    seen = uow.attempts.overdue(limits, CHUNK_JOBS)
    if not seen:
        return []
    locked = uow.connections.lock_skipping(attempt.connection_id for attempt, _ in seen)
    return [_closing(*found) for found in uow.attempts.overdue(limits, CHUNK_JOBS, sorted(locked))]


def _closing(attempt: Attempt, ending: Ending) -> Closing:
    return Closing(attempt, ending, _MESSAGES[ending])
