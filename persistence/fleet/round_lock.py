"""The lock under which one assignment round runs at a time, and the requests of those that did not get it."""

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

_KEY = func.hashtext("crawlyard_assign")

_TRY_LOCK = select(func.pg_try_advisory_xact_lock(_KEY))
_WAIT = select(func.pg_advisory_xact_lock(_KEY))
_REQUEST = select(func.nextval("assign_bell"))
_READ_REQUESTS = text("SELECT last_value, is_called FROM assign_bell")


class RoundLock:
    """An advisory lock, released when the transaction ends, and the sequence `assign_bell`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def try_lock(self) -> bool:
        """Take the lock if it is free. A statement of its own, so that what the round reads next is not older."""
        return bool(self._session.scalars(_TRY_LOCK).one())

    def wait(self) -> None:
        """
        Wait until no round runs, and let none begin until the transaction ends.

        Rounds that find the lock taken meanwhile give up, so the caller publishes jobs.assign.
        """
        self._session.execute(_WAIT)

    def request_another_round(self) -> None:
        """Ask the round that runs to publish another one. A sequence is not rolled back."""
        self._session.execute(_REQUEST)

    def read_requests(self) -> tuple[int, bool]:
        """The state of the requests: there are new ones if it differs from an earlier reading."""
        row = self._session.execute(_READ_REQUESTS).one()
        return row.last_value, row.is_called
