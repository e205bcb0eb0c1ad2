"""Deliveries that fail before or after a chosen statement or COMMIT, with their process or their connection."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg
from sqlalchemy import event

from persistence.db.engine import engine
from persistence.settings import settings

COMMIT = "COMMIT"


@dataclass(frozen=True)
class Point:
    """One statement or COMMIT of a delivery."""

    number: int
    statement: str
    session: Any
    """The psycopg connection on which it runs."""

    def __str__(self) -> str:
        return f"{self.number} ({' '.join(self.statement.split())[:80]})"

    @property
    def is_commit(self) -> bool:
        """True if it ends a transaction."""
        return self.statement == COMMIT


Hook = Callable[[Point], None]


def nothing(_: Point) -> None:
    """Do nothing."""


@contextmanager
def at_each_point(before: Hook = nothing, after: Hook = nothing) -> Iterator[list[Point]]:
    """Call the hooks around each statement and COMMIT of this process; yields the list of points reached."""
    passed: list[Point] = []
    dialect = engine().dialect

    def reach(statement: str, session: Any) -> None:
        passed.append(Point(len(passed), statement, session))
        before(passed[-1])

    def before_statement(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        reach(statement, cursor.connection)

    def after_statement(*_: Any) -> None:
        after(passed[-1])

    def commit(session: Any) -> None:
        reach(COMMIT, session.driver_connection)
        type(dialect).do_commit(dialect, session)
        after(passed[-1])

    event.listen(engine(), "before_cursor_execute", before_statement)
    event.listen(engine(), "after_cursor_execute", after_statement)
    dialect.do_commit = commit  # type: ignore[method-assign]
    try:
        yield passed
    finally:
        del dialect.do_commit
        event.remove(engine(), "before_cursor_execute", before_statement)
        event.remove(engine(), "after_cursor_execute", after_statement)


class Killed(BaseException):
    """Stands for the death of the process: nothing catches it."""


class Death(StrEnum):
    """What happens at a point."""

    PROCESS_BEFORE = "the process is killed before it"
    PROCESS_AFTER = "the process is killed after it"
    SESSION_BEFORE = "the server ends the session before it"
    ANSWER_LOST = "the server has executed it, and the connection is lost before its answer comes"

    @property
    def is_of_process(self) -> bool:
        """True if the message is redelivered; otherwise the task itself continues."""
        return self in (Death.PROCESS_BEFORE, Death.PROCESS_AFTER)

    @property
    def is_before(self) -> bool:
        """True if the server never receives the statement."""
        return self in (Death.PROCESS_BEFORE, Death.SESSION_BEFORE)


@dataclass
class Crash:
    """One death, at the point with this number. A dead process no longer reaches the database."""

    at: int
    death: Death
    died_at: Point | None = None

    def before(self, point: Point) -> None:
        """Die at the chosen point, or stay dead."""
        if self.died_at and self.death.is_of_process:
            raise Killed
        if point.number == self.at and self.death.is_before:
            self._die(point)

    def after(self, point: Point) -> None:
        """Die at the chosen point."""
        if point.number == self.at and not self.death.is_before and not self.died_at:
            self._die(point)

    def _die(self, point: Point) -> None:
        self.died_at = point
        match self.death:
            case Death.PROCESS_BEFORE | Death.PROCESS_AFTER:
                raise Killed
            case Death.SESSION_BEFORE:
                _end(point.session)
            case Death.ANSWER_LOST:
                point.session.close()
                raise psycopg.OperationalError("server closed the connection unexpectedly")


def _end(session: Any) -> None:
    """End a session like an administrator, a failover or a restart; its next statement fails."""
    backend = session.execute(
        "SELECT pg_backend_pid()"
    ).fetchone()  # asked of the server: a pooler makes one up
    with psycopg.connect(settings().session_url, autocommit=True) as admin:
        ended = admin.execute("SELECT pg_terminate_backend(%s, 5000)", backend).fetchone()
    assert ended == (True,)


def crashed(action: Callable[[], None], at: int, death: Death) -> Point | None:
    """Run an action that dies at the point with this number; returns the point, or None if it was not reached."""
    crash = Crash(at, death)
    with at_each_point(crash.before, crash.after), suppress(Killed):
        action()
    return crash.died_at
