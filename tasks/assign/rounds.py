"""
The assignment round, `jobs.assign`: assigns waiting jobs to the free slots of all connections.

One round runs at a time. A task that finds another round running requests one more, which the running round
publishes after its commit. Without that request, jobs stayed unassigned in 75 of 1,170 rounds.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog
from ulid import ULID

from persistence.attempts.attempts import NewAttempt
from persistence.jobs.account_queues import HostQueue
from persistence.jobs.entries import Entry
from persistence.jobs.jobs import KnownJob
from persistence.jobs.live_counts import HostQueueKey
from persistence.schema.event_types import EventType
from persistence.schema.ids import AccountId, ConnectionId, CrawlerJobId, EntryId, JobId
from persistence.schema.states import JobStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.assign.fairness import FreeSlots, LiveLoad, assignment_order, quotas
from tasks.contract.payloads import Assign
from tasks.jobs.transitions import settle_entries
from tasks.origins.hold import QueuedJob, hold, is_elsewhere
from tasks.runtime.task import task
from tasks.runtime.unit import unit_of_work

log = structlog.get_logger()

ROUND_LIMIT = 1000
"""The most jobs that one round assigns; if more could be, it publishes another round."""

_MAX_CLAIMS = 8
"""The most claims of one round. It needs several if queues are short, or if claimed entries cannot be assigned."""


@task(name="jobs.assign", accepts=Assign)
def assign(_: Assign) -> None:
    """Run a round, or request one from the round that is running."""
    with unit_of_work() as uow:
        if not _acquire_round(uow):
            return
        requests = uow.round_lock.read_requests()
        assigned = assign_jobs(uow)
        uow.commit()
    if assigned:
        log.info("jobs_seated", jobs=assigned)
    with unit_of_work() as uow:  # after the commit: until then the lock is taken, and requests may come
        if uow.round_lock.read_requests() != requests:
            uow.publish("jobs.assign")
        uow.commit()


def _acquire_round(uow: UnitOfWork) -> bool:
    """Acquire the lock of the round; otherwise request another round from the one that has it."""
    if uow.round_lock.try_lock():
        return True
    uow.round_lock.request_another_round()
    return uow.round_lock.try_lock()  # the other round may have read the requests just before


def assign_jobs(uow: UnitOfWork) -> int:
    """Assign at most ROUND_LIMIT jobs and return how many. The caller has acquired the lock of the round."""
    if uow.entries.mark_due_ready(ROUND_LIMIT) == ROUND_LIMIT:
        uow.publish("jobs.assign")
    queues = _without_expiring(uow, uow.account_queues.waiting(settings().token_margin))
    if not queues:
        return 0
    free_slots = FreeSlots(uow.slots.lock_free(ROUND_LIMIT), ROUND_LIMIT)
    if not free_slots.free:
        return 0
    opened = _fill_slots(uow, queues, free_slots)
    if opened:
        uow.slots.occupy((attempt.connection_id, attempt.crawler_job_id) for attempt in opened)
        if settings().pending_cap is not None and uow.deferred.has_any({a.account_id for a in opened}):
            uow.publish("upkeep.feed_deferred")
    return len(opened)


def _without_expiring(uow: UnitOfWork, queues: list[HostQueue]) -> list[HostQueue]:
    """Block the accounts whose token is about to expire, so that it is refreshed first; return the other queues."""
    expiring = sorted({queue.account_id for queue in queues if queue.is_expiring})[:ROUND_LIMIT]
    if not expiring:
        return queues
    uow.account_queues.open(expiring)
    locked = uow.account_queues.lock_skipping(expiring)
    blocked = uow.account_queues.block_expiring(locked, settings().token_margin)
    for account_id in sorted(blocked):
        uow.publish("credentials.refresh", account_id=account_id)
    return [queue for queue in queues if not queue.is_expiring]


def _fill_slots(uow: UnitOfWork, queues: list[HostQueue], free_slots: FreeSlots) -> list[NewAttempt]:
    """Claim and assign until slots or queues are exhausted, or a limit is reached: then publish another round."""
    live_load = LiveLoad(
        Counter(uow.live_counts.by_host_queue()),
        settings().account_cap,
        settings().host_cap,
        probing={queue.account_id for queue in queues if queue.is_probing},
    )
    stuck = StuckEntries()
    opened: list[NewAttempt] = []
    claims = 0
    while free_slots.free and claims < _MAX_CLAIMS:
        claim = _claim(uow, quotas(queues, live_load, free_slots.free), stuck)
        if not claim.entries and not claim.exhausted:
            break
        queued = claim.queued
        _settle(uow, claim.moved_on(queued))
        held, assignable = claim.split(queued)
        _hold(uow, held, claim)
        placed = _place(assignable, queues, live_load, free_slots)
        opened += _open_attempts(uow, placed, claim)
        stuck.add(
            e for e in claim.entries if e.job_id not in claim.jobs or (e.is_suspect and e not in placed)
        )
        queues = [queue for queue in queues if (queue.account_id, queue.host) not in claim.exhausted]
        claims += 1
    if opened and (claims == _MAX_CLAIMS or len(opened) >= ROUND_LIMIT):
        uow.publish("jobs.assign")
    return opened


@dataclass
class StuckEntries:
    """
    Entries that this round cannot assign: a suspect without an empty connection, or a job that is locked elsewhere.

    They stay at the heads of their queues, so each further claim asks for that many more, and ignores these.
    """

    ids: set[EntryId] = field(default_factory=set)
    by_queue: Counter[HostQueueKey] = field(default_factory=Counter)

    def add(self, entries: Iterable[Entry]) -> None:
        """Remember entries."""
        for entry in entries:
            self.ids.add(entry.id)
            self.by_queue[entry.account_id, entry.host] += 1


@dataclass(frozen=True)
class Claim:
    """Locked entries, and their jobs as they are under lock."""

    entries: list[Entry]
    jobs: dict[JobId, KnownJob]
    """The jobs of the entries, except those that another transaction has locked."""
    exhausted: set[HostQueueKey]
    """Queues that had fewer entries than were asked for."""
    origins: dict[AccountId, str]
    """The GitLabs to which the accounts of the entries are bound."""

    @property
    def queued(self) -> list[Entry]:
        """The entries whose jobs wait, for the account and host for which they were claimed."""
        return [entry for entry in self.entries if _is_waiting(entry, self.jobs.get(entry.job_id))]

    def split(self, queued: list[Entry]) -> tuple[list[Entry], list[Entry]]:
        """Return the entries whose orders would send a token to another GitLab than its account's, and the others."""
        held: list[Entry] = []
        assignable: list[Entry] = []
        for entry in queued:
            url, bound = self.jobs[entry.job_id].graphql_url, self.origins.get(entry.account_id)
            (held if is_elsewhere(url, bound) else assignable).append(entry)
        return held, assignable

    def moved_on(self, queued: list[Entry]) -> list[KnownJob]:
        """The locked jobs but the *queued*: the web app has ended or paused them, or moved them to another account."""
        waiting = {entry.job_id for entry in queued}
        return [job for id_, job in self.jobs.items() if id_ not in waiting]


def _claim(uow: UnitOfWork, wanted: dict[HostQueueKey, int], stuck: StuckEntries) -> Claim:
    """Lock the first entries of each queue, and their jobs."""
    requested = {queue: count + stuck.by_queue[queue] for queue, count in wanted.items()}
    claimed = uow.entries.claim(requested)
    counts: Counter[HostQueueKey] = Counter((entry.account_id, entry.host) for entry in claimed)
    entries = [entry for entry in claimed if entry.id not in stuck.ids]
    jobs = uow.jobs.lock_skipping(entry.job_id for entry in entries)
    origins = uow.origins.find({entry.account_id for entry in entries})
    return Claim(
        entries, jobs, {queue for queue, count in requested.items() if counts[queue] < count}, origins
    )


def _is_waiting(entry: Entry, job: KnownJob | None) -> bool:
    return (
        job is not None
        and job.status is JobStatus.QUEUED
        and (job.account_id, job.host) == (entry.account_id, entry.host)
    )


def _settle(uow: UnitOfWork, moved_on: list[KnownJob]) -> None:
    """Bring entries in line with jobs that have moved on, so that they no longer stand in their queue."""
    settle_entries(uow, [job for job in moved_on if job.status is not JobStatus.QUEUED])
    uow.entries.sync_owner({job.id: job.host for job in moved_on if job.status is JobStatus.QUEUED})


def _hold(uow: UnitOfWork, entries: list[Entry], claim: Claim) -> None:
    """
    Hold entries whose account belongs to another GitLab.

    One of an account that belongs to none is enqueued, which binds the account if it can: a round waits for no lock.
    """
    jobs = [QueuedJob(e.job_id, e.account_id, claim.jobs[e.job_id].graphql_url) for e in entries]
    hold(uow, jobs, claim.origins)
    if unbound := sorted(job.id for job in jobs if job.account_id not in claim.origins):
        uow.publish("jobs.enqueue", job_ids=unbound)


def _place(
    entries: list[Entry], queues: list[HostQueue], live_load: LiveLoad, free_slots: FreeSlots
) -> dict[Entry, ConnectionId]:
    """Take a slot for each entry, in fair order, for as long as there are slots."""
    placed = {}
    for entry in assignment_order(entries, queues, live_load):
        if connection_id := free_slots.take(entry):
            placed[entry] = connection_id
            live_load.add(entry.account_id, entry.host)
    return placed


def _open_attempts(uow: UnitOfWork, placed: dict[Entry, ConnectionId], claim: Claim) -> list[NewAttempt]:
    """Open an attempt for each placed entry; return those that were opened."""
    if not placed:
        return []
    new = [_new_attempt(entry, connection_id, claim) for entry, connection_id in placed.items()]
    opened_jobs = uow.attempts.open(new)
    uow.entries.mark_processing(attempt.web_app_job_id for attempt in new)
    opened = [attempt for attempt in new if attempt.web_app_job_id in opened_jobs]
    uow.account_queues.mark_assigned({attempt.account_id for attempt in opened})
    for attempt in opened:
        uow.events.add(
            EventType.JOB_ASSIGNED,
            job_id=attempt.web_app_job_id,
            account_id=attempt.account_id,
            connection_id=attempt.connection_id,
            crawler_job_id=attempt.crawler_job_id,
        )
    for attempt in new:
        if attempt.web_app_job_id not in opened_jobs:  # its entry was wrong, and is processing now
            log.error("job_had_a_live_attempt", job_id=attempt.web_app_job_id)
    return opened


def _new_attempt(entry: Entry, connection_id: ConnectionId, claim: Claim) -> NewAttempt:
    fence = str(ULID())
    return NewAttempt(
        id=fence,
        crawler_job_id=CrawlerJobId(fence),
        web_app_job_id=entry.job_id,
        connection_id=connection_id,
        account_id=entry.account_id,
        user_id=claim.jobs[entry.job_id].user_id,
        host=entry.host,
        gitlab_url=claim.origins[entry.account_id],
    )
