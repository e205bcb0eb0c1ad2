"""
The matchmaking pass: `jobs.assign` seats waiting jobs on the free seats of all live connections.

One pass at a time. Who comes while another runs leaves a bell, and the holder looks again after its
commit: without it a job stranded in 75 of 1,170 rounds.
"""

from collections import Counter

import structlog
from ulid import ULID

from persistence.attempts.attempts import NewAttempt
from persistence.jobs.account_queues import HostQueue
from persistence.jobs.entries import Entry
from persistence.jobs.jobs import KnownJob
from persistence.schema.event_types import EventType
from persistence.schema.ids import AccountId, ConnectionId, CrawlerJobId, JobId
from persistence.schema.states import JobStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.assign.fairness import FreeSlots, LiveLoad, assignment_order, quotas
from tasks.contract.payloads import Assign
from tasks.jobs.external_status import settle_entries
from tasks.runtime.task import task
from tasks.runtime.unit import unit_of_work

log = structlog.get_logger()

ROUND_LIMIT = 1000
"""Jobs that one pass seats at most; more rings again."""

_MAX_CLAIMS = 8
"""Claims in one pass: more than one where lanes are short, or entries could not be seated."""


@task(name="jobs.assign", accepts=Assign)
def assign(_: Assign) -> None:
    """Seat what can be seated."""
    with unit_of_work() as uow:
        if not _acquire_round(uow):
            return
        requests = uow.round_lock.read_requests()
        assigned = assign_jobs(uow)
        uow.commit()
    if assigned:
        log.info("jobs_seated", jobs=assigned)
    with unit_of_work() as uow:  # after the commit, or one who came late is not heard
        if uow.round_lock.read_requests() != requests:
            uow.publish("jobs.assign")
        uow.commit()


def _acquire_round(uow: UnitOfWork) -> bool:
    """Whether this is the one pass; if not, its holder was told to look again."""
    if uow.round_lock.try_lock():
        return True
    uow.round_lock.request_another_round()
    return uow.round_lock.try_lock()


def assign_jobs(uow: UnitOfWork) -> int:
    """Seat at most PASS_LIMIT jobs, by a caller that holds the pass; how many were."""
    readied = uow.entries.mark_due_ready(ROUND_LIMIT)
    if readied == ROUND_LIMIT:
        uow.publish("jobs.assign")
    queues = _without_expiring(uow, uow.account_queues.waiting(settings().token_margin))
    if not queues:
        return 0
    free_slots = FreeSlots(uow.connections.lock_with_free_slots(ROUND_LIMIT), ROUND_LIMIT)
    if not free_slots.free:
        return 0
    return _Round(uow, queues, free_slots).run()


def _without_expiring(uow: UnitOfWork, queues: list[HostQueue]) -> list[HostQueue]:
    """The lanes whose accounts have a token for some time to come; of the others it is refreshed first."""
    expiring = sorted({queue.account_id for queue in queues if queue.is_expiring})[:ROUND_LIMIT]
    if not expiring:
        return queues
    uow.account_queues.open(expiring)
    locked = uow.account_queues.lock_skipping(expiring)
    blocked = uow.account_queues.block_expiring(locked, settings().token_margin)
    for account_id in sorted(blocked):
        uow.publish("credentials.refresh", account_id=account_id)
    return [queue for queue in queues if not queue.is_expiring]


class _Round:
    """One pass: rounds of claiming and seating, until seats or lanes are at their end."""

    def __init__(self, uow: UnitOfWork, queues: list[HostQueue], free_slots: FreeSlots) -> None:
        self._uow = uow
        self._queues = queues
        self._free_slots = free_slots
        self._live_load = LiveLoad(
            Counter(uow.live_counts.by_host_queue()), settings().account_cap, settings().host_cap
        )
        self._skipped: Counter[tuple[str, str]] = Counter()
        self._considered: set[str] = set()
        self._assigned: list[tuple[ConnectionId, CrawlerJobId]] = []
        self._accounts: set[AccountId] = set()

    def run(self) -> int:
        """Seat what can be seated; how many jobs. Rings for another pass where this one came to its bounds."""
        claims = 0
        while self._free_slots.free and claims < _MAX_CLAIMS and self._claim_and_assign():
            claims += 1
        if self._assigned:
            self._uow.connections.occupy_slots(self._assigned)
        if self._has_room_for_deferred():
            self._uow.publish("upkeep.feed_deferred")
        if self._assigned and (claims == _MAX_CLAIMS or len(self._assigned) >= ROUND_LIMIT):
            self._uow.publish("jobs.assign")
        return len(self._assigned)

    def _has_room_for_deferred(self) -> bool:
        """Whether jobs may wait outside of the queue for what was seated."""
        return settings().pending_cap is not None and self._uow.deferred.has_any(self._accounts)

    def _claim_and_assign(self) -> bool:
        """Claim as many as there are seats, and seat them; whether another round could find more."""
        wanted = quotas(self._queues, self._live_load, self._free_slots.free)
        requested = {queue: share + self._skipped[queue] for queue, share in wanted.items()}
        claimed = self._uow.entries.claim(requested)
        claimed_counts: Counter[tuple[str, str]] = Counter(
            (entry.account_id, entry.host) for entry in claimed
        )
        entries = [entry for entry in claimed if entry.id not in self._considered]
        jobs = self._uow.jobs.lock_skipping(entry.job_id for entry in entries)
        waiting = [entry for entry in entries if _is_waiting(entry, jobs.get(entry.job_id))]
        moved_on = jobs.keys() - {entry.job_id for entry in waiting}
        self._settle([jobs[entry.job_id] for entry in entries if entry.job_id in moved_on])
        placed = self._place(waiting)
        self._open(waiting, placed, jobs)
        self._skip([e for e in entries if e.job_id not in jobs or (e.is_suspect and e.job_id not in placed)])
        ended = {queue for queue, count in requested.items() if claimed_counts[queue] < count}
        self._queues = [queue for queue in self._queues if (queue.account_id, queue.host) not in ended]
        return bool(entries or ended)

    def _place(self, entries: list[Entry]) -> dict[JobId, ConnectionId]:
        placed = {}
        for entry in assignment_order(entries, self._queues, self._live_load):
            connection_id = self._free_slots.take(entry)
            if connection_id is not None:
                placed[entry.job_id] = connection_id
                self._live_load.add(entry.account_id, entry.host)
        return placed

    def _settle(self, jobs: list[KnownJob]) -> None:
        """Entries of jobs that the web app has ended, paused or given away must not clog their lane."""
        settle_entries(self._uow, [job for job in jobs if job.status is not JobStatus.QUEUED])
        self._uow.entries.sync_owner(job.id for job in jobs if job.status is JobStatus.QUEUED)

    def _skip(self, entries: list[Entry]) -> None:
        """Entries that cannot be seated now are at the head of their lanes still: claim as many more."""
        self._considered.update(entry.id for entry in entries)
        self._skipped.update((entry.account_id, entry.host) for entry in entries)

    def _open(
        self, entries: list[Entry], placed: dict[JobId, ConnectionId], jobs: dict[JobId, KnownJob]
    ) -> None:
        if not placed:
            return
        new_attempts = {
            e.job_id: _new_attempt(e, placed[e.job_id], jobs[e.job_id]) for e in entries if e.job_id in placed
        }
        opened = self._uow.attempts.open(new_attempts.values())
        for job_id in placed.keys() - opened:
            log.error("job_had_a_live_attempt", job_id=job_id)
        self._uow.entries.mark_processing(placed)  # those too: it is what they are
        accounts = {new_attempts[job_id].account_id for job_id in opened}
        self._uow.account_queues.mark_assigned(accounts)
        self._accounts |= accounts
        for job_id in opened:
            new_attempt = new_attempts[job_id]
            self._assigned.append((new_attempt.connection_id, new_attempt.crawler_job_id))
            self._uow.events.add(
                EventType.JOB_ASSIGNED,
                job_id=job_id,
                account_id=new_attempt.account_id,
                connection_id=new_attempt.connection_id,
                crawler_job_id=new_attempt.crawler_job_id,
            )


def _is_waiting(entry: Entry, job: KnownJob | None) -> bool:
    """Whether the job waits, for the account and host for which it was claimed."""
    return (
        job is not None
        and job.status is JobStatus.QUEUED
        and (job.account_id, job.host) == (entry.account_id, entry.host)
    )


def _new_attempt(entry: Entry, connection_id: ConnectionId, job: KnownJob) -> NewAttempt:
    fence = str(ULID())
    return NewAttempt(
        id=fence,
        crawler_job_id=CrawlerJobId(fence),
        web_app_job_id=entry.job_id,
        connection_id=connection_id,
        account_id=entry.account_id,
        user_id=job.user_id,
        host=entry.host,
    )
