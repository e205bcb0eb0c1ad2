"""The task `upkeep.clean_up`: deletes old rows and old jobs in bounded transactions."""

from time import monotonic

import structlog

from persistence.maintenance.retention import BOUNDED
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import CleanUp
from tasks.maintenance.erasure import erase_gone_accounts
from tasks.maintenance.old_jobs import delete_old_jobs
from tasks.runtime.chunks import TIME_LIMIT_S
from tasks.runtime.task import task
from tasks.runtime.unit import unit_of_work

log = structlog.get_logger()

CHUNK_ROWS = 1000
"""Rows of one table, jobs included, that one transaction deletes at most."""

CHUNK_EVENTS = 10_000
"""
Events that one transaction deletes at most.

A job writes seven events, and more with each progress frame and each attempt. If a transaction deleted only as many
events as jobs, events would pile up.
"""


@task(name="upkeep.clean_up", accepts=CleanUp)
def clean_up(payload: CleanUp) -> None:
    """Delete what is older than its retention. Rejected messages are counted anew unless this run continues another."""
    with unit_of_work() as uow:
        deleted: dict[str, int] = {}
        is_due = not payload.more and uow.intervals.acquire("upkeep.clean_up", settings().clean_up_interval)
        if payload.more or is_due:
            deleted = delete_old(uow)
        uow.commit()
    if is_due:
        with unit_of_work() as uow:
            uow.rejected_bounds.recount()
            uow.commit()
        delete_beyond_bounds()
        forget_spellings()
        erase_gone_accounts()
    if any(deleted.values()):
        log.info("old_rows_deleted", **deleted)


def forget_spellings() -> None:
    """Delete spellings of paths that nothing has any more: a crawler may report a path in any number of them."""
    deadline = monotonic() + TIME_LIMIT_S
    place: tuple[str, str] | None = ("", "")
    while place is not None and monotonic() < deadline:
        with unit_of_work() as uow:
            uow.retention.prefer_indexes()
            place = uow.spellings.forget_unused(*place)
            uow.commit()


def delete_beyond_bounds() -> None:
    """Delete the oldest rows of tables that have more than their bound, and count them for the statistics."""
    deadline = monotonic() + TIME_LIMIT_S
    for table, setting in BOUNDED.items():
        with unit_of_work() as uow:
            until = uow.retention.newest_beyond(table, getattr(settings(), setting))
        deleted = CHUNK_ROWS
        while until and deleted == CHUNK_ROWS and monotonic() < deadline:
            with unit_of_work() as uow:
                uow.retention.prefer_indexes()
                deleted = uow.retention.delete_until(table, until, CHUNK_ROWS)
                uow.statistics.add_beyond_bounds({table: deleted})
                uow.commit()
            log.warning("rows_beyond_bound_deleted", table=table, rows=deleted)


def delete_old(uow: UnitOfWork) -> dict[str, int]:
    """
    Delete a bounded number of old rows of each table, jobs last; the number of rows by table.

    Jobs that have a reason to stay are counted as `kept`. If rows may be left, another run is published.
    """
    uow.retention.prefer_indexes()
    deleted = uow.retention.delete_old(settings(), CHUNK_ROWS)
    events = uow.retention.trim_events(settings().keep_events, CHUNK_EVENTS, settings().max_events)
    uow.live_counts.delete_empty(CHUNK_ROWS)
    jobs = delete_old_jobs(uow, CHUNK_ROWS)
    if CHUNK_ROWS in deleted.values() or events.deleted == CHUNK_EVENTS or jobs.is_full:
        uow.publish("upkeep.clean_up", more=True)
    if events.beyond_bound:
        uow.statistics.add_beyond_bounds({"dispatch_event": events.beyond_bound})
    return deleted | {"dispatch_event": events.deleted, "job": jobs.deleted, "kept": jobs.kept}
