"""Erasing what is left of accounts that the web app has deleted, as a part of `upkeep.clean_up`."""

from time import monotonic

import structlog

from persistence.schema.ids import AccountId
from tasks.runtime.chunks import TIME_LIMIT_S
from tasks.runtime.unit import unit_of_work

log = structlog.get_logger()

ACCOUNTS = 100
"""Accounts that one run erases at most."""

EVENTS, REJECTED = 50_000, 1000
"""Rows that one transaction reads."""


def erase_gone_accounts() -> None:
    """
    Erase accounts in units that may each be run again: first what names them, then the row by which they are found.

    A run that takes too long leaves the rest, and the row, to the next one.
    """
    with unit_of_work() as uow:
        ids = uow.erasure.gone(ACCOUNTS)
    if not ids:
        return
    deadline = monotonic() + TIME_LIMIT_S
    if not (_erase_events(ids, deadline) and _erase_rejected(ids, deadline)):
        log.warning("accounts_not_erased", accounts=len(ids))
        return
    with unit_of_work() as uow:
        erased = uow.erasure.delete_rest(ids)
        uow.commit()
    log.info("accounts_erased", accounts=len(erased))


def _erase_events(ids: list[AccountId], deadline: float) -> bool:
    """Read all events; False if time is over before."""
    after = ("0", 0)
    while monotonic() < deadline:
        with unit_of_work() as uow:
            page = uow.erasure.delete_events(ids, after, EVENTS)
            uow.commit()
        if page is None:
            return True
        after = (page.xid, page.id)
    return False


def _erase_rejected(ids: list[AccountId], deadline: float) -> bool:
    """Read all rejected messages; False if time is over before."""
    after: str | None = ""
    while monotonic() < deadline:
        with unit_of_work() as uow:
            after, _ = uow.erasure.delete_rejected(ids, after or "", REJECTED)
            uow.commit()
        if after is None:
            return True
    return False
