"""
One unit of work: one transaction, and the repositories that work in it.

    with unit_of_work(publish) as uow:
        uow.connections.lock(ids)
        uow.publish("jobs.assign")
        uow.commit()

Without a commit everything is rolled back. Events, rejections and live counts are buffered until the commit, which
writes them. Tasks are published after it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import structlog
from sqlalchemy.orm import Session

from persistence.areas.areas import Areas
from persistence.areas.changes import AreaChanges
from persistence.areas.children import Children
from persistence.areas.scopes import Scopes
from persistence.areas.spellings import Spellings
from persistence.attempts.attempts import Attempts
from persistence.attempts.overdue import OverdueAttempts
from persistence.credentials.accounts import Accounts
from persistence.credentials.blocks import Blocks
from persistence.credentials.refreshes import Refreshes
from persistence.db.engine import engine
from persistence.db.sqlstate import translate_errors
from persistence.db.transaction import Transaction
from persistence.error_log.log import ErrorLog
from persistence.events.outbox import Events
from persistence.fleet.connections import Connections
from persistence.fleet.credentials import CrawlerCredentials
from persistence.fleet.intervals import Intervals
from persistence.fleet.links import Links
from persistence.fleet.round_lock import RoundLock
from persistence.fleet.slots import Slots
from persistence.fleet.sweep_state import SweepStates
from persistence.jobs.account_queues import AccountQueues
from persistence.jobs.deferred import DeferredJobs
from persistence.jobs.doubts import Doubts
from persistence.jobs.entries import Entries
from persistence.jobs.identity import Identities
from persistence.jobs.jobs import Jobs
from persistence.jobs.live_counts import LiveCounts
from persistence.jobs.selection import Selections
from persistence.maintenance.duplicates import Duplicates
from persistence.maintenance.erasure import Erasure
from persistence.maintenance.old_jobs import OldJobs
from persistence.maintenance.retention import Retention
from persistence.maintenance.statistics import Statistics
from persistence.messages.processed import ProcessedMessages
from persistence.messages.rejected import RejectedMessages
from persistence.messages.rejected_bounds import RejectedBounds
from persistence.origins.aliases import GitlabAliases
from persistence.origins.names import StoredNames
from persistence.origins.origins import Origins
from persistence.origins.spellings import GitlabSpellings
from persistence.sanitize.known_tokens import KnownTokens
from persistence.schema.event_types import EventType

log = structlog.get_logger()

Publish = Callable[[str, dict[str, Any]], None]
"""Publishes a task by name with these arguments. It may raise; that only logs a warning."""


WakeUp = Callable[[], None]
"""Wakes gateways up. It does not raise."""


def unit_of_work(publish: Publish, wake_gateways: WakeUp = lambda: None) -> "UnitOfWork":
    """Begin a unit of work on the process's engine; *publish* sends its messages, *wake_gateways* what it says."""
    return UnitOfWork(Session(engine(), autoflush=False), publish, wake_gateways)


class UnitOfWork(Transaction):
    """A transaction, the repositories that work in it, and the messages to publish after it."""

    def __init__(self, session: Session, publish: Publish, wake_gateways: WakeUp) -> None:
        super().__init__(session)
        self._send = publish
        self._wake_gateways = wake_gateways
        self._messages: list[tuple[str, dict[str, Any]]] = []
        self.tokens = KnownTokens(session)
        self.live_counts = LiveCounts(session)
        self.account_queues = AccountQueues(session)
        self.accounts = Accounts(session)
        self.areas = Areas(session)
        self.attempts = Attempts(session, self.live_counts)
        self.blocks = Blocks(session)
        self.area_changes = AreaChanges(session)
        self.children = Children(session)
        self.scopes = Scopes(session)
        self.connections = Connections(session)
        self.crawler_credentials = CrawlerCredentials(session)
        self.deferred = DeferredJobs(session)
        self.doubts = Doubts(session)
        self.duplicates = Duplicates(session)
        self.entries = Entries(session, self.tokens)
        self.erasure = Erasure(session)
        self.error_log = ErrorLog(session, self.tokens)
        self.events = Events(session)
        self.gitlab_aliases = GitlabAliases(session)
        self.gitlab_names = StoredNames(session)
        self.gitlab_spellings = GitlabSpellings(session)
        self.identities = Identities(session)
        self.intervals = Intervals(session)
        self.jobs = Jobs(session)
        self.links = Links(session)
        self.old_jobs = OldJobs(session)
        self.origins = Origins(session)
        self.overdue_attempts = OverdueAttempts(session)
        self.processed = ProcessedMessages(session)
        self.refreshes = Refreshes(session)
        self.rejected_bounds = RejectedBounds(session)
        self.rejected = RejectedMessages(session, self.rejected_bounds, self.tokens)
        self.retention = Retention(session)
        self.round_lock = RoundLock(session)
        self.selections = Selections(session)
        self.slots = Slots(session)
        self.spellings = Spellings(session)
        self.statistics = Statistics(session)
        self.sweep_state = SweepStates(session)

    def __enter__(self) -> Self:
        """Begin the transaction, by the names that GitLabs have now."""
        super().__enter__()
        try:
            with translate_errors():
                self.gitlab_aliases.keep_fresh()
        except BaseException:
            self._session.close()  # __exit__ is not called
            raise
        return self

    def publish(self, task: str, **arguments: Any) -> None:
        """Publish *task* after the commit; the same task with the same arguments is published once."""
        if (task, arguments) not in self._messages:
            self._messages.append((task, arguments))

    def commit(self) -> None:
        """
        Write rejections, events and counts, COMMIT, then publish; gateways are woken up first, if they are concerned.

        If publishing fails, it logs a warning: the periodic tasks find every row whose message was lost.
        """
        for connection_id in self.rejected.write():
            self.events.add(EventType.REJECTED_DROPPED, connection_id=connection_id or None)
        self.events.write()
        self.live_counts.write()
        self.rejected.count()
        self._session.commit()
        if self.events.concern_gateways:
            self.events.concern_gateways = False
            self._wake_gateways()
        for task, arguments in self._messages:
            try:
                self._send(task, arguments)
            except Exception as error:  # noqa: BLE001 - whatever the broker's client raises
                log.warning("bell_lost", task=task, error=type(error).__name__)
        self._messages.clear()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """
        Do all or nothing of the block, including its events, rejections, counts and messages.

        The database's errors are translated, so that a caller can continue after a refused value.
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
