"""
One task, one unit of work, one transaction.

    with unit_of_work(ring) as uow:
        uow.connections.lock(ids)
        uow.ring("jobs.assign")
        uow.commit()

What is not committed is rolled back. Rings, events, rejections and counts are gathered on the way: all
but the rings are written by the commit itself, rings go out after it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from persistence.areas.areas import Areas
from persistence.areas.children import Children
from persistence.attempts.attempts import Attempts
from persistence.attempts.overdue import OverdueAttempts
from persistence.credentials.accounts import Accounts
from persistence.credentials.blocks import Blocks
from persistence.credentials.refreshes import Refreshes
from persistence.db.engine import engine
from persistence.db.sqlstate import is_database_lost, translate_errors
from persistence.error_log.log import ErrorLog
from persistence.events.outbox import Events
from persistence.fleet.connections import Connections
from persistence.fleet.intervals import Intervals
from persistence.fleet.round_lock import RoundLock
from persistence.fleet.sweep_state import SweepStates
from persistence.jobs.account_queues import AccountQueues
from persistence.jobs.deferred import DeferredJobs
from persistence.jobs.entries import Entries
from persistence.jobs.identity import Identities
from persistence.jobs.jobs import Jobs
from persistence.jobs.live_counts import LiveCounts
from persistence.jobs.selection import Selections
from persistence.maintenance.old_jobs import OldJobs
from persistence.maintenance.retention import Retention
from persistence.maintenance.statistics import Statistics
from persistence.messages.processed import ProcessedMessages
from persistence.messages.rejected import RejectedMessages
from persistence.settings import settings

log = structlog.get_logger()

Publish = Callable[[str, dict[str, Any]], None]
"""Publishes a task by name, with these arguments. May raise: a lost bell is a warning."""

_MILLISECOND = timedelta(milliseconds=1)

_LIMITS = text("""
    SELECT set_config('statement_timeout', :statement, true), set_config('lock_timeout', :lock, true),
           set_config('idle_in_transaction_session_timeout', :silence, true)
""")


def unit_of_work(publish: Publish) -> "UnitOfWork":
    """Begin a unit of work on the process's engine, whose bells go to *publish*."""
    return UnitOfWork(Session(engine(), autoflush=False), publish)


class UnitOfWork:
    """A transaction, READ COMMITTED, and the repositories that work in it."""

    def __init__(self, session: Session, publish: Publish) -> None:
        self._session = session
        self._send = publish
        self._messages: list[tuple[str, dict[str, Any]]] = []
        self.accounts = Accounts(session)
        self.areas = Areas(session)
        self.live_counts = LiveCounts(session)
        self.attempts = Attempts(session, self.live_counts)
        self.overdue_attempts = OverdueAttempts(session)
        self.blocks = Blocks(session)
        self.children = Children(session)
        self.connections = Connections(session)
        self.deferred = DeferredJobs(session)
        self.error_log = ErrorLog(session)
        self.events = Events(session)
        self.processed = ProcessedMessages(session)
        self.jobs = Jobs(session)
        self.identities = Identities(session)
        self.account_queues = AccountQueues(session)
        self.intervals = Intervals(session)
        self.round_lock = RoundLock(session)
        self.sweep_state = SweepStates(session)
        self.old_jobs = OldJobs(session)
        self.entries = Entries(session)
        self.rejected = RejectedMessages(session)
        self.refreshes = Refreshes(session)
        self.retention = Retention(session)
        self.selections = Selections(session)
        self.statistics = Statistics(session)

    def __enter__(self) -> Self:
        limits = {
            "statement": settings().statement_timeout,
            "lock": settings().lock_timeout,
            # A worker that is frozen, or cut off, must let go before beats that wait for its locks are missed.
            "silence": min(settings().statement_timeout, settings().outage_gap),
        }
        try:
            with translate_errors():
                self._session.execute(
                    _LIMITS, {name: f"{limit / _MILLISECOND:.0f}ms" for name, limit in limits.items()}
                )
        except BaseException:
            self._session.close()  # nobody calls __exit__ for us
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Roll back what was not committed, and raise the database's errors as ours."""
        with translate_errors():
            try:
                if error is not None and is_database_lost(error):
                    # Back in the pool it would serve the next attempt: one that has become read-only for ever.
                    self._session.invalidate()
                else:
                    self._session.close()
            except Exception:
                if error is None:
                    raise  # else the error that led here tells more than a rollback on a dead connection
            if error is not None:
                raise error

    def now(self) -> datetime:
        """The database's time, at this moment."""
        now: datetime = self._session.scalars(select(func.clock_timestamp())).one()
        return now

    def publish(self, task: str, **arguments: Any) -> None:
        """Ring *task* after the commit; rung twice with the same arguments is rung once."""
        if (task, arguments) not in self._messages:
            self._messages.append((task, arguments))

    def commit(self) -> None:
        """
        Write rejections, events and counts, COMMIT, then ring.

        A bell that cannot be rung is a warning: the sweeps find every row whose bell was lost.
        """
        self.rejected.write()
        self.events.write()
        self.live_counts.write()
        self._session.commit()
        for task, arguments in self._messages:
            try:
                self._send(task, arguments)
            except Exception as error:  # noqa: BLE001 - whatever the broker's client raises
                log.warning("bell_lost", task=task, error=type(error).__name__)
        self._messages.clear()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """
        All or nothing of what is done inside, events, rejections and rings included.

        The database's errors leave it as ours, so that a caller can go on after a refusal.
        """
        messages, counts = len(self._messages), self.live_counts.mark()
        events, rejections = self.events.mark(), self.rejected.mark()
        try:
            with translate_errors(), self._session.begin_nested():
                yield
        except BaseException:
            del self._messages[messages:]
            self.events.reset(events)
            self.rejected.reset(rejections)
            self.live_counts.reset(counts)
            raise
