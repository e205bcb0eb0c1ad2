"""
When silence means that crawlers are dead: what the sweep decides, on plain values.

Silence has three causes. A crawler died: its connection is closed once it was silent for the timeout, and the
loss counts against its jobs. We were gone ourselves, and heartbeats were lost with us: everybody gets a grace of
one timeout. More than half of the fleet, or of one gateway's, is silent or lost at once, as after a deploy or behind
a dead gateway: they get the grace too, and those that stay so are closed without counting a loss, since no job can be
the cause.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from persistence.fleet.silence import FleetCounts
from persistence.fleet.sweep_state import SweepState

MIN_FLEET_FOR_MASS_SILENCE = 10
"""In a smaller fleet, more than half may well die one by one."""


def was_outage(last_sweep_at: datetime | None, as_of: datetime, now: datetime, gap: timedelta) -> bool:
    """True if we were gone for longer than *gap* since the last sweep, or cannot know for how long."""
    return last_sweep_at is None or last_sweep_at > now or as_of - last_sweep_at > gap


def is_mass_silence(fleet: FleetCounts) -> bool:
    """
    True if at least one connection is silent and more than half of the fleet have missed a heartbeat.

    The crawlers of a dead gateway cross the timeout one after another, within one interval of heartbeats.
    """
    return (
        fleet.silent > 0
        and fleet.active >= MIN_FLEET_FOR_MASS_SILENCE
        and 2 * fleet.almost_silent > fleet.active
    )


def in_grace(state: SweepState, now: datetime) -> bool:
    """True while nothing is closed or taken back."""
    return state.grace_until is not None and state.grace_until > now


def clock_was_set_back(state: SweepState, now: datetime) -> bool:
    """True if the last sweep lies in the future of the database's clock."""
    return state.last_sweep_at is not None and state.last_sweep_at > now


def begin_sweep(
    state: SweepState, as_of: datetime, now: datetime, gap: timedelta, grace: timedelta
) -> SweepState:
    """Return the state with this sweep in it, and with a grace if we were gone before it."""
    last = state.last_sweep_at
    # A sweep that comes late is not the last one, or the time since its as_of would look like an outage.
    latest = as_of if last is None or last > now else max(last, as_of)
    grace_until = now + grace if was_outage(last, as_of, now, gap) else state.grace_until
    return replace(state, last_sweep_at=latest, grace_until=grace_until)


def judge_fleet(
    state: SweepState, fleet: FleetCounts, as_of: datetime, now: datetime, grace: timedelta
) -> SweepState:
    """Return the state after the fleet was counted: mass silence waits for one grace, then ends without losses."""
    if not is_mass_silence(fleet):
        return replace(state, mass_waited_at=None)
    if state.mass_waited_at is None:
        return replace(state, mass_waited_at=now, grace_until=now + grace)
    return replace(state, mass_as_of=as_of)


def end_sweep(state: SweepState, as_of: datetime) -> SweepState:
    """Return the state after the last unit of a sweep: mass silence is over, unless this is an older sweep."""
    is_older = state.mass_as_of is not None and as_of < state.mass_as_of
    return state if is_older else replace(state, mass_as_of=None)
