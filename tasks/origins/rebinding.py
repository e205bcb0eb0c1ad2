"""An operator's word, `crawlyard accounts bind`: accounts belong to another GitLab from now on."""

from collections.abc import Collection

from persistence.schema.gitlabs import gitlab_of
from persistence.schema.ids import AccountId
from persistence.unit_of_work import UnitOfWork

CHUNK_ACCOUNTS = 1000
"""Accounts that one unit of work binds at most."""


def rebind(uow: UnitOfWork, account_ids: Collection[AccountId], origin: str) -> set[AccountId]:
    """
    Bind those of these accounts that exist; returns them.

    Reconcile ends their attempts at other GitLabs, and releases their jobs that were held for this one. A round that
    has read the former binding ends first: call `round_lock.wait` in a unit of its own before reconcile is published.
    """
    known = {AccountId(id_) for id_ in uow.accounts.lock_key_share(account_ids)}
    if known:
        uow.account_queues.open(known)
        uow.account_queues.lock(known)  # a refresh of the tokens decides under this lock
        uow.origins.rebind(known, gitlab_of(origin) or origin)
    return known
