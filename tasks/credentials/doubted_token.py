"""
Tokens in doubt: what a crawler says about a token is checked before it blocks an account.

A doubt ends with the answer of the account's GitLab, with a report of another crawler credential, with progress of any
of the account's jobs, or with its time. If enough jobs agree, the account is blocked for that time; then one job at a
time is assigned, and its progress or its report decides.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from persistence.attempts.attempts import Attempt
from persistence.jobs.doubts import Doubt
from persistence.schema.ids import AccountId, ConnectionId, CrawlerJobId
from persistence.schema.reasons import BlockReason
from persistence.schema.states import JobStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.credentials.renewed import CHUNK_JOBS, unblock_account
from tasks.credentials.token_info import TokenState
from tasks.jobs.locking import lock_waiting_jobs
from tasks.jobs.transitions import announce

TASK = "credentials.refresh"


@dataclass(frozen=True)
class TokenCheck:
    """A token to ask its GitLab about."""

    account_id: AccountId
    token_hash: str
    access_token: str = field(repr=False)
    is_oauth: bool
    origin: str


def refused_reports(uow: UnitOfWork, reports: Collection[Attempt]) -> set[CrawlerJobId]:
    """
    Count the accounts that each connection brings into doubt; return the attempts whose reports are beyond its bound.

    A report about a token that is known to be dead, or in doubt already, costs nothing.
    """
    if not reports:
        return set()
    undoubted = uow.doubts.undoubted({attempt.account_id for attempt in reports})
    wanted: defaultdict[ConnectionId, set[AccountId]] = defaultdict(set)
    for attempt in reports:
        if attempt.account_id in undoubted:
            wanted[attempt.connection_id].add(attempt.account_id)
    if not wanted:
        return set()
    counts = uow.connections.count_doubts({id_: len(accounts) for id_, accounts in wanted.items()})
    refused = set()
    for id_, accounts in wanted.items():
        excess = min(max(counts[id_] - settings().max_token_doubts, 0), len(accounts))
        refused |= {(id_, account) for account in sorted(accounts)[len(accounts) - excess :]}
    return {a.crawler_job_id for a in reports if (a.connection_id, a.account_id) in refused}


def doubt_tokens(uow: UnitOfWork, account_ids: set[AccountId]) -> None:
    """Doubt the tokens of accounts of which a job was just reported; block those known to be dead, or by many."""
    dead = uow.doubts.expired(account_ids)
    if doubted := account_ids - dead:
        uow.doubts.begin(doubted)
        proven = uow.doubts.proven(doubted)
        for account_id in sorted(proven):
            uow.doubts.end(account_id)
        dead |= proven
    uow.account_queues.block(dead, BlockReason.TOKEN_DIED)
    if open_ := account_ids - dead:
        uow.doubts.block(uow.doubts.agreed(open_))


def begin_check(uow: UnitOfWork, account_id: AccountId) -> TokenCheck | None:
    """Settle a doubt about the token of an account, which is locked, or return what its GitLab is to be asked."""
    doubt = uow.doubts.find(account_id)
    if doubt is None:
        return None
    if doubt.has_another_token:
        unblock_account(uow, account_id, is_news=True)
    elif doubt.has_expired:
        _block_dead(uow, account_id)
    elif uow.doubts.has_worked(account_id, doubt.since):
        _end(uow, account_id)
    elif (origin := uow.origins.find([account_id]).get(account_id)) and not uow.intervals.is_recent(
        _unavailable_key(origin), settings().reconcile_interval
    ):
        return TokenCheck(account_id, doubt.token_hash, doubt.access_token, doubt.is_oauth, origin)
    else:
        _wait_or_end(uow, doubt)
    return None


def settle_check(uow: UnitOfWork, check: TokenCheck, state: TokenState) -> None:
    """Do what follows from the answer of an account's GitLab."""
    uow.account_queues.lock([check.account_id])
    doubt = uow.doubts.find(check.account_id)
    if doubt is None:
        return
    if doubt.token_hash != check.token_hash:
        uow.publish(TASK, account_id=check.account_id)
    elif state is TokenState.DEAD:
        _block_dead(uow, check.account_id)
    elif state is TokenState.ALIVE:
        _end(uow, check.account_id)
    else:
        uow.intervals.acquire(_unavailable_key(check.origin), settings().reconcile_interval)
        _wait_or_end(uow, doubt)


def _block_dead(uow: UnitOfWork, account_id: AccountId) -> None:
    """Block the account until it has another token, and ask for one."""
    uow.doubts.end(account_id)
    uow.account_queues.block([account_id], BlockReason.TOKEN_DIED)
    uow.publish(TASK, account_id=account_id)


def _wait_or_end(uow: UnitOfWork, doubt: Doubt) -> None:
    """Let a doubt that nobody can settle end with its time: by a probe, if the account is blocked for it."""
    if not doubt.is_over:
        return
    if doubt.is_blocked:
        uow.doubts.probe(doubt.account_id)
        _queue_waiting(uow, doubt.account_id, 1)
    else:
        _end(uow, doubt.account_id)


def _end(uow: UnitOfWork, account_id: AccountId) -> None:
    """End a doubt: the jobs that waited are queued again, and the account is blocked no more."""
    if _queue_waiting(uow, account_id, CHUNK_JOBS) < CHUNK_JOBS:
        uow.doubts.end(account_id)
    else:
        uow.publish(TASK, account_id=account_id)


def _queue_waiting(uow: UnitOfWork, account_id: AccountId, limit: int) -> int:
    """Queue up to *limit* jobs that waited for a new token; return how many there were."""
    job_ids = uow.blocks.waiting_jobs(account_id, {JobStatus.WAITING_CREDENTIAL_RENEWAL}, limit)
    locked = lock_waiting_jobs(uow, job_ids)
    queued = uow.jobs.renew(locked.jobs)
    uow.entries.unpark(queued & locked.entries.keys())
    announce(uow, locked.jobs, queued, JobStatus.QUEUED)
    uow.publish("jobs.assign")
    return len(job_ids)


def _unavailable_key(origin: str) -> str:
    """The name under which the time is stored at which a GitLab last told nothing about a token."""
    return f"{TASK} no answer: {origin}"
