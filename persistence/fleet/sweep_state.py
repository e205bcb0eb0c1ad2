"""What sweeps remember from one to the next: the one row of `liveness_state`."""

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from persistence.schema.tables import LivenessState


@dataclass(frozen=True)
class SweepState:
    """The row, by column."""

    last_sweep_at: datetime | None
    """The latest `as_of` of all sweeps that ran."""
    grace_until: datetime | None
    """Until then no connection is closed and no attempt is taken back."""
    mass_waited_at: datetime | None
    """When the sweeps found more than half of the fleet silent and began to wait one timeout longer."""
    mass_as_of: datetime | None
    """The sweep that closes more than half of the fleet. None of its units counts a loss against a job."""


_LOCK = select(
    LivenessState.last_sweep_at,
    LivenessState.grace_until,
    LivenessState.mass_waited_at,
    LivenessState.mass_as_of,
).with_for_update(key_share=True)

_SAVE = update(LivenessState).execution_options(synchronize_session=False)


class SweepStates:
    """The table `liveness_state`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock(self) -> SweepState:
        """Lock the row, so that sweeps run one after another."""
        return SweepState(*self._session.execute(_LOCK).one())

    def save(self, state: SweepState) -> None:
        """Write the row, which the caller has locked."""
        self._session.execute(_SAVE.values(asdict(state)))
