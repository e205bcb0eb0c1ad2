"""
The matchmaking pass: `jobs.assign` seats waiting jobs on the free seats of all live connections.

One pass at a time. Who comes while another runs leaves a bell, and the holder looks again after its
commit: without it a job stranded in 75 of 1,170 rounds.
"""

from collections import Counter

import structlog
from ulid import ULID

from persistence.attempts.attempts import Opening
from persistence.jobs.account_queues import Lane
from persistence.jobs.entries import Entry
from persistence.jobs.jobs import KnownJob
from persistence.schema.event_types import EventType
from persistence.schema.ids import AccountId, ConnectionId, CrawlerJobId, JobId
from persistence.schema.states import JobStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.assign.fairness import Board, Table, in_turn, quotas
from tasks.contract.payloads import Assign
from tasks.jobs.external_status import settle_entries
from tasks.runtime.task import task
from tasks.runtime.unit import unit_of_work

log = structlog.get_logger()

PASS_LIMIT = 1000
"""Jobs that one pass seats at most; more rings again."""

_ROUNDS = 8
"""Claims in one pass: more than one where lanes are short, or entries could not be seated."""


@task(name="jobs.assign", accepts=Assign)
def assign(_: Assign) -> None:
    """Seat what can be seated."""
    with unit_of_work() as uow:
        if not _is_mine(uow):
            return
        bell = uow.liveness.read_bell()
        seated = seat_jobs(uow)
        uow.commit()
    if seated:
        log.info("jobs_seated", jobs=seated)
    with unit_of_work() as uow:  # after the commit, or one who came late is not heard
        if uow.liveness.read_bell() != bell:
            uow.ring("jobs.assign")
        uow.commit()


def _is_mine(uow: UnitOfWork) -> bool:
    """Whether this is the one pass; if not, its holder was told to look again."""
    if uow.liveness.try_lock_pass():
        return True
    uow.liveness.ring_bell()
    return uow.liveness.try_lock_pass()


def seat_jobs(uow: UnitOfWork) -> int:
    """Seat at most PASS_LIMIT jobs, by a caller that holds the pass; how many were."""
    readied = uow.queue.ready_due(PASS_LIMIT)
    if readied == PASS_LIMIT:
        uow.ring("jobs.assign")
    lanes = _with_tokens(uow, uow.lanes.waiting(settings().token_margin))
    if not lanes:
        return 0
    board = Board(uow.connections.lock_free_seats(PASS_LIMIT), PASS_LIMIT)
    if not board.free:
        return 0
    return _Pass(uow, lanes, board).run()


def _with_tokens(uow: UnitOfWork, lanes: list[Lane]) -> list[Lane]:
    """The lanes whose accounts have a token for some time to come; of the others it is refreshed first."""
    expiring = sorted({lane.account_id for lane in lanes if lane.is_expiring})[:PASS_LIMIT]
    if not expiring:
        return lanes
    uow.lanes.open(expiring)
    locked = uow.lanes.lock_skipping(expiring)
    held = uow.credentials.hold_expiring(locked, settings().token_margin)
    for account_id in sorted(held):
        uow.ring("credentials.refresh", account_id=account_id)
    return [lane for lane in lanes if not lane.is_expiring]


class _Pass:
    """One pass: rounds of claiming and seating, until seats or lanes are at their end."""

    def __init__(self, uow: UnitOfWork, lanes: list[Lane], board: Board) -> None:
        self._uow = uow
        self._lanes = lanes
        self._board = board
        self._table = Table(Counter(uow.live_counts.by_lane()), settings().account_cap, settings().host_cap)
        self._stuck: Counter[tuple[str, str]] = Counter()
        self._considered: set[str] = set()
        self._seated: list[tuple[ConnectionId, CrawlerJobId]] = []
        self._accounts: set[AccountId] = set()

    def run(self) -> int:
        """Seat what can be seated; how many jobs. Rings for another pass where this one came to its bounds."""
        rounds = 0
        while self._board.free and rounds < _ROUNDS and self._round():
            rounds += 1
        if self._seated:
            self._uow.connections.take_seats(self._seated)
        if self._has_made_room():
            self._uow.ring("upkeep.feed_deferred")
        if self._seated and (rounds == _ROUNDS or len(self._seated) >= PASS_LIMIT):
            self._uow.ring("jobs.assign")
        return len(self._seated)

    def _has_made_room(self) -> bool:
        """Whether jobs may wait outside of the queue for what was seated."""
        return settings().pending_cap is not None and self._uow.deferred.has_any(self._accounts)

    def _round(self) -> bool:
        """Claim as many as there are seats, and seat them; whether another round could find more."""
        wanted = quotas(self._lanes, self._table, self._board.free)
        asked = {lane: share + self._stuck[lane] for lane, share in wanted.items()}
        claimed = self._uow.queue.claim(asked)
        got: Counter[tuple[str, str]] = Counter((entry.account_id, entry.host) for entry in claimed)
        entries = [entry for entry in claimed if entry.id not in self._considered]
        jobs = self._uow.jobs.lock_skipping(entry.job_id for entry in entries)
        waiting = [entry for entry in entries if _is_waiting(entry, jobs.get(entry.job_id))]
        moved_on = jobs.keys() - {entry.job_id for entry in waiting}
        self._settle([jobs[entry.job_id] for entry in entries if entry.job_id in moved_on])
        placed = self._place(waiting)
        self._open(waiting, placed, jobs)
        self._pass_over(
            [e for e in entries if e.job_id not in jobs or (e.is_suspect and e.job_id not in placed)]
        )
        ended = {lane for lane, count in asked.items() if got[lane] < count}
        self._lanes = [lane for lane in self._lanes if (lane.account_id, lane.host) not in ended]
        return bool(entries or ended)

    def _place(self, entries: list[Entry]) -> dict[JobId, ConnectionId]:
        placed = {}
        for entry in in_turn(entries, self._lanes, self._table):
            connection_id = self._board.seat(entry)
            if connection_id is not None:
                placed[entry.job_id] = connection_id
                self._table.seat(entry.account_id, entry.host)
        return placed

    def _settle(self, jobs: list[KnownJob]) -> None:
        """Entries of jobs that the web app has ended, paused or given away must not clog their lane."""
        settle_entries(self._uow, [job for job in jobs if job.status is not JobStatus.QUEUED])
        self._uow.queue.follow_owner(job.id for job in jobs if job.status is JobStatus.QUEUED)

    def _pass_over(self, entries: list[Entry]) -> None:
        """Entries that cannot be seated now are at the head of their lanes still: claim as many more."""
        self._considered.update(entry.id for entry in entries)
        self._stuck.update((entry.account_id, entry.host) for entry in entries)

    def _open(
        self, entries: list[Entry], placed: dict[JobId, ConnectionId], jobs: dict[JobId, KnownJob]
    ) -> None:
        if not placed:
            return
        openings = {
            e.job_id: _opening(e, placed[e.job_id], jobs[e.job_id]) for e in entries if e.job_id in placed
        }
        opened = self._uow.assignments.open(openings.values())
        for job_id in placed.keys() - opened:
            log.error("job_had_a_live_attempt", job_id=job_id)
        self._uow.queue.process(placed)  # those too: it is what they are
        accounts = {openings[job_id].account_id for job_id in opened}
        self._uow.lanes.note_seated(accounts)
        self._accounts |= accounts
        for job_id in opened:
            opening = openings[job_id]
            self._seated.append((opening.connection_id, opening.crawler_job_id))
            self._uow.events.add(
                EventType.JOB_ASSIGNED,
                job_id=job_id,
                account_id=opening.account_id,
                connection_id=opening.connection_id,
                crawler_job_id=opening.crawler_job_id,
            )


def _is_waiting(entry: Entry, job: KnownJob | None) -> bool:
    """Whether the job waits, for the account and host for which it was claimed."""
    return (
        job is not None
        and job.status is JobStatus.QUEUED
        and (job.account_id, job.host) == (entry.account_id, entry.host)
    )


def _opening(entry: Entry, connection_id: ConnectionId, job: KnownJob) -> Opening:
    fence = str(ULID())
    return Opening(
        id=fence,
        crawler_job_id=CrawlerJobId(fence),
        job_id=entry.job_id,
        connection_id=connection_id,
        account_id=entry.account_id,
        user_id=job.user_id,
        host=entry.host,
    )
