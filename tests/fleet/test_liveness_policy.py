"""What the sweep decides about silence, on plain values."""

from datetime import UTC, datetime, timedelta

import pytest

from persistence.fleet.silence import FleetCounts
from persistence.fleet.sweep_state import SweepState
from tasks.fleet.liveness_policy import (
    begin_sweep,
    clock_was_set_back,
    end_sweep,
    in_grace,
    is_mass_silence,
    judge_fleet,
    was_outage,
)

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
GAP, GRACE, SECOND = timedelta(seconds=30), timedelta(seconds=90), timedelta(seconds=1)

QUIET = SweepState(NOW - SECOND, None, None, None)
"""The last sweep ran a second ago, and nothing was wrong."""


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (None, True),
        (NOW + SECOND, True),
        (NOW - GAP - SECOND, True),
        (NOW - GAP, False),
        (NOW - SECOND, False),
    ],
    ids=["first sweep", "clock set back", "longer than the gap", "exactly the gap", "in time"],
)
def test_a_gap_between_sweeps_is_an_outage(last: datetime | None, expected: bool) -> None:  # noqa: FBT001
    """It is one if it is longer than the limit, or if its length is unknown."""
    assert was_outage(last, NOW, NOW, GAP) is expected


def test_a_sweep_after_an_outage_gives_a_grace() -> None:
    """The grace begins at the database's time, not at the time as of which the sweep judges."""
    state = begin_sweep(QUIET, NOW + GAP, NOW + GAP + SECOND, GAP, GRACE)

    assert state == SweepState(NOW + GAP, NOW + GAP + SECOND + GRACE, None, None)


def test_a_sweep_in_time_keeps_the_grace_as_it_is() -> None:
    """It notes itself, and neither extends nor ends a grace."""
    state = SweepState(NOW - SECOND, NOW + GRACE, None, None)

    assert begin_sweep(state, NOW, NOW, GAP, GRACE) == SweepState(NOW, NOW + GRACE, None, None)


def test_a_late_sweep_does_not_move_the_last_sweep_back() -> None:
    """A last sweep in the future is moved back: the clock was wrong when it was written."""
    late = begin_sweep(QUIET, NOW - 5 * SECOND, NOW, GAP, GRACE)
    ahead = begin_sweep(SweepState(NOW + GRACE, None, None, None), NOW, NOW, GAP, GRACE)

    assert (late.last_sweep_at, ahead.last_sweep_at) == (NOW - SECOND, NOW)


def test_a_grace_ends_at_its_time() -> None:
    """At that time connections are closed again."""
    states = [SweepState(None, until, None, None) for until in (None, NOW, NOW + SECOND)]

    assert [in_grace(state, NOW) for state in states] == [False, False, True]


def test_a_clock_set_back_shows_in_the_last_sweep() -> None:
    """No sweep has run in the future."""
    states = [SweepState(last, None, None, None) for last in (None, NOW, NOW + SECOND)]

    assert [clock_was_set_back(state, NOW) for state in states] == [False, False, True]


@pytest.mark.parametrize(
    ("fleet", "expected"),
    [
        (FleetCounts(active=10, silent=1, almost_silent=6), True),
        (FleetCounts(active=10, silent=1, almost_silent=5), False),
        (FleetCounts(active=10, silent=0, almost_silent=10), False),
        (FleetCounts(active=9, silent=9, almost_silent=9), False),
        (FleetCounts(active=0, silent=0, almost_silent=0), False),
    ],
    ids=["more than half", "half", "none silent yet", "small fleet", "no fleet"],
)
def test_more_than_half_of_a_fleet_silent_is_mass_silence(fleet: FleetCounts, expected: bool) -> None:  # noqa: FBT001
    """Half of it is not, nor is all of a fleet below ten."""
    assert is_mass_silence(fleet) is expected


def test_mass_silence_waits_for_one_grace_and_is_then_closed_as_one() -> None:
    """The second sweep that finds it marks itself as the one whose losses do not count."""
    fleet = FleetCounts(active=12, silent=7, almost_silent=7)
    waiting = judge_fleet(QUIET, fleet, NOW, NOW, GRACE)
    later = NOW + GRACE
    closing = judge_fleet(waiting, fleet, later, later, GRACE)

    assert waiting == SweepState(NOW - SECOND, NOW + GRACE, NOW, None)
    assert closing == SweepState(NOW - SECOND, NOW + GRACE, NOW, later)


def test_mass_silence_that_ended_by_itself_is_forgotten() -> None:
    """The next one waits for a grace of its own."""
    waiting = SweepState(NOW - SECOND, NOW - SECOND, NOW - GRACE, None)

    state = judge_fleet(waiting, FleetCounts(active=12, silent=0, almost_silent=0), NOW, NOW, GRACE)

    assert state == SweepState(NOW - SECOND, NOW - SECOND, None, None)


def test_the_sweep_of_a_mass_silence_ends_it_and_an_older_one_does_not() -> None:
    """What the older sweep does not find is still to be closed by the other one."""
    state = SweepState(NOW, NOW - SECOND, NOW - GRACE, mass_as_of=NOW)

    assert end_sweep(state, NOW - SECOND) == state
    assert end_sweep(state, NOW) == SweepState(NOW, NOW - SECOND, NOW - GRACE, None)
    assert end_sweep(QUIET, NOW) == QUIET
