"""
Queueing deferred jobs, which discoveries found beyond an account's cap: `upkeep.feed_deferred`.

Published by reconcile, and by an assignment round that has assigned jobs of an account with deferred jobs.
"""

import structlog

from persistence.jobs.identity import identity
from persistence.schema.ids import AccountId
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import FeedDeferred
from tasks.discovery.spawn import room_of, spawn
from tasks.runtime.batches import bisect_on_refusal, reject
from tasks.runtime.task import task
from tasks.runtime.unit import unit_of_work

log = structlog.get_logger()

TASK = "upkeep.feed_deferred"

CHUNK_JOBS = 1000
"""The most deferred jobs that one unit takes. If there may be more, it publishes the task again."""


@task(name=TASK, accepts=FeedDeferred)
def feed_deferred(_: FeedDeferred) -> None:
    """Queue the deferred jobs for which there is room."""
    with unit_of_work() as uow:
        fed = feed(uow)
        uow.commit()
    if fed:
        log.info("deferred_jobs_fed", jobs=fed)


def feed(uow: UnitOfWork) -> int:
    """Queue up to CHUNK_JOBS deferred jobs, account by account; returns how many were taken."""
    accounts = uow.deferred.accounts()
    existing = uow.accounts.lock_key_share(accounts)
    if gone := set(accounts) - existing:
        uow.deferred.drop_accounts(gone)
    fed = 0
    for account_id in sorted(existing):
        fed += _feed_account(uow, AccountId(account_id), CHUNK_JOBS - fed)
        if fed >= CHUNK_JOBS:
            uow.publish(TASK)
            break
    return fed


def _feed_account(uow: UnitOfWork, account_id: AccountId, limit: int) -> int:
    room = room_of(uow, account_id)
    taken = uow.deferred.take(account_id, max(min(room, limit), 0))
    # One job may be deferred in several spellings of its path or of its GitLab.
    distinct = list({identity(child.job): child for child in reversed(taken)}.values())[::-1]
    uow.spellings.add(child.job.full_path for child in distinct)
    existing = uow.identities.twins_of_jobs([child.job for child in distinct])
    bisect_on_refusal(
        uow,
        [child for child in distinct if child.job.id not in existing],
        lambda part: spawn(uow, part),
        lambda child, why: reject(uow, child.job.row(), "refused_by_database", why),
    )
    return len(taken)
