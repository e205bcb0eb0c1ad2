"""A transaction with our timeouts, whose errors are ours."""

from datetime import datetime
from types import TracebackType
from typing import Self

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from persistence.db.sqlstate import is_connection_unusable, translate_errors


class Transaction:
    """A READ COMMITTED transaction. It is rolled back unless it was committed."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> Self:
        try:
            with translate_errors():
                self._session.connection()  # begins, with the limits of persistence/db/session.py
        except BaseException:
            self._session.close()  # __exit__ is not called
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Roll back unless committed, and translate the database's errors."""
        with translate_errors():
            try:
                if error is not None and is_connection_unusable(error):
                    # The pool must not reuse it: one to a server that is now read-only would stay so, and one whose
                    # answer was not read to its end would give it to the next statement.
                    self._session.invalidate()
                else:
                    self._session.close()
            except Exception:
                if error is None:
                    raise  # otherwise the error that led here tells more
            if error is not None:
                raise error

    def now(self) -> datetime:
        """The database's current time."""
        now: datetime = self._session.scalars(select(func.clock_timestamp())).one()
        return now
