"""What the sweeps know of themselves, the bells of periodic tasks, and the lock of the matchmaking."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

_ACQUIRE_INTERVAL = text("""
    INSERT INTO periodic_ring AS published (task, rung_at) VALUES (:task, clock_timestamp())
    ON CONFLICT (task) DO UPDATE SET rung_at = excluded.rung_at
     WHERE published.rung_at <= clock_timestamp() - CAST(:interval AS interval) OR published.rung_at > clock_timestamp()
    RETURNING rung_at
""")

_WAS_ACQUIRED_WITHIN = text("""
    SELECT EXISTS (SELECT FROM periodic_ring
                    WHERE task = :task AND rung_at > clock_timestamp() - CAST(:interval AS interval)
                      AND rung_at <= clock_timestamp())
""")

_LOCK = text("""
    SELECT last_sweep_at, grace_until, mass_waited_at, mass_as_of FROM liveness_state FOR NO KEY UPDATE
""")

_SAVE = text("""
    UPDATE liveness_state SET last_sweep_at = :last_sweep_at, grace_until = :grace_until,
                              mass_waited_at = :mass_waited_at, mass_as_of = :mass_as_of
""")


@dataclass(frozen=True)
class SweepState:
    """The one row of `liveness_state`."""

    last_sweep_at: datetime | None
    grace_until: datetime | None
    mass_waited_at: datetime | None
    mass_as_of: datetime | None


class Liveness:
    """The tables `liveness_state` and `periodic_ring`, and the advisory lock of the pass."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def acquire_interval(self, task: str, interval: timedelta) -> bool:
        """Whether a periodic task was last let through at least *interval* ago; many beats are as one."""
        return (
            self._session.execute(_ACQUIRE_INTERVAL, {"task": task, "interval": interval}).one_or_none()
            is not None
        )

    def was_acquired_within(self, task: str, interval: timedelta) -> bool:
        """Whether *task* was let through less than *interval* ago."""
        return bool(self._session.scalars(_WAS_ACQUIRED_WITHIN, {"task": task, "interval": interval}).one())

    def lock(self) -> SweepState:
        """Lock the one row: sweeps follow each other."""
        row = self._session.execute(_LOCK).one()
        return SweepState(row.last_sweep_at, row.grace_until, row.mass_waited_at, row.mass_as_of)

    def save(self, state: SweepState) -> None:
        """Write the one row, which the caller has locked."""
        self._session.execute(_SAVE, vars(state))

    def try_lock_round(self) -> bool:
        """Be the one matchmaking pass, until the transaction ends; a statement of its own, before the pass looks."""
        statement = text("SELECT pg_try_advisory_xact_lock(hashtext('crawlyard_assign'))")
        return bool(self._session.scalars(statement).one())

    def wait_for_round(self) -> None:
        """
        Wait until no pass is running, and let none begin until the transaction ends.

        Whoever would have been one meanwhile has left: the caller rings jobs.assign.
        """
        self._session.execute(text("SELECT pg_advisory_xact_lock(hashtext('crawlyard_assign'))"))

    def request_another_round(self) -> None:
        """Tell the holder of the pass that there was somebody else; a sequence is not rolled back."""
        self._session.execute(text("SELECT nextval('assign_bell')"))

    def read_round_requests(self) -> tuple[int, bool]:
        """Where the bell stands: it has moved when this differs."""
        row = self._session.execute(text("SELECT last_value, is_called FROM assign_bell")).one()
        return row.last_value, row.is_called
