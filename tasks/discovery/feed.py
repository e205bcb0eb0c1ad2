"""
Feeding in what discoveries found beyond an account's cap: `upkeep.feed_deferred`.

Rung by reconcile, and by a pass that has seated jobs of an account for which something is deferred.
"""

from itertools import groupby

import structlog

from persistence.jobs.deferred import Offspring
from persistence.schema.ids import AccountId
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import FeedDeferred
from tasks.discovery.spawn import room_of, spawn
from tasks.runtime.batches import in_halves, reject
from tasks.runtime.task import task
from tasks.runtime.unit import unit_of_work

log = structlog.get_logger()

TASK = "upkeep.feed_deferred"

UNIT_JOBS = 1000
"""Jobs that one unit feeds in at most; more rings again."""


@task(name=TASK, accepts=FeedDeferred)
def feed_deferred(_: FeedDeferred) -> None:
    """Make deferred jobs for which there is room."""
    with unit_of_work() as uow:
        fed = feed(uow)
        uow.commit()
    if fed:
        log.info("deferred_jobs_fed", jobs=fed)


def feed(uow: UnitOfWork) -> int:
    """Feed in at most UNIT_JOBS jobs, account by account; how many."""
    accounts = uow.deferred.accounts()
    there = uow.accounts.hold(accounts)
    if gone := set(accounts) - there:
        uow.deferred.drop(gone)
    fed = 0
    for account_id in sorted(there):
        fed += _feed_account(uow, AccountId(account_id), UNIT_JOBS - fed)
        if fed >= UNIT_JOBS:
            uow.ring(TASK)
            break
    return fed


def _feed_account(uow: UnitOfWork, account_id: AccountId, limit: int) -> int:
    room = room_of(uow, account_id)
    taken = uow.deferred.take(account_id, limit if room is None else max(min(room, limit), 0))
    for url, of_one_host in groupby(
        sorted(taken, key=lambda found: found.job.graphql_url or ""), key=lambda f: f.job.graphql_url
    ):
        offspring = list(of_one_host)
        there = uow.children.existing([_place(found) for found in offspring], url)
        in_halves(
            uow,
            [found for found in offspring if _place(found) not in there],
            lambda part: spawn(uow, part),
            lambda found, why: reject(uow, found.job.row(), "refused_by_database", why),
        )
    return len(taken)


def _place(found: Offspring) -> tuple[str, str]:
    return found.job.full_path or "", found.job.command
