"""When periodic tasks last ran. Several beats, and the timers of all workers, publish the same task."""

from datetime import timedelta

from sqlalchemy import Interval, bindparam, exists, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from persistence.schema.tables import PeriodicPublish

_NOW = func.clock_timestamp()
_DUE_BEFORE = _NOW - bindparam("pause", type_=Interval)

_ACQUIRE = (
    insert(PeriodicPublish)
    .values(task=bindparam("task"), rung_at=_NOW)
    .on_conflict_do_update(
        index_elements=[PeriodicPublish.task],
        set_={"rung_at": _NOW},
        # A time in the future was written before the database's clock was set back.
        where=or_(PeriodicPublish.rung_at <= _DUE_BEFORE, PeriodicPublish.rung_at > _NOW),
    )
    .returning(PeriodicPublish.task)
)

_IS_RECENT = select(
    exists().where(
        PeriodicPublish.task == bindparam("task"),
        PeriodicPublish.rung_at > _DUE_BEFORE,
        PeriodicPublish.rung_at <= _NOW,
    )
)


class Intervals:
    """
    The table `periodic_ring`: when each periodic task last acquired its interval.

    Half of the interval must have passed, so that a beat that is a little early still counts. `credentials.refresh`
    also notes here when a GitLab last did not process a refresh.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def acquire(self, task: str, interval: timedelta) -> bool:
        """
        True if *task* is due: half of *interval* has passed since it was last acquired. Acquires it.

        Locks the row of the task, so that two units cannot both acquire one interval.
        """
        values = {"task": task, "pause": interval / 2}
        return self._session.scalars(_ACQUIRE, values).one_or_none() is not None

    def is_recent(self, task: str, interval: timedelta) -> bool:
        """True if *task* was acquired less than half of *interval* ago."""
        return bool(self._session.scalars(_IS_RECENT, {"task": task, "pause": interval / 2}).one())
