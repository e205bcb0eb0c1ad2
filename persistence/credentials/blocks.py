"""
Blocked accounts: which they are, why, and what waits for their new tokens.

An account is blocked while its access token is of no use; none of its jobs is assigned then. A block names the token
by its hash (`account_lane.held_token`), so that an account with another token is due to be unblocked.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from persistence.schema.ids import AccountId, JobId
from persistence.schema.sql import HAS_ANOTHER_TOKEN, fragment, sql
from persistence.schema.states import JobStatus

_COLUMNS = fragment(
    """
    lane.account_id, COALESCE(lane.held_reason, '') AS reason, $refresh_token_hash AS token_hash,
    $has_another_token AS has_another_token,
    COALESCE(lane.held_token = '', false) AS is_being_unblocked,
    COALESCE(account.access_token_expires_at <= clock_timestamp(), false) AS has_expired,
    COALESCE(account.refresh_token_expires_at <= clock_timestamp(), false) AS cannot_be_refreshed
    """,
    has_another_token=HAS_ANOTHER_TOKEN,
)

_FIND = sql(
    """
    SELECT $columns FROM account_lane lane JOIN account ON account.id = lane.account_id
     WHERE lane.held_at IS NOT NULL AND lane.account_id = :account_id
    """,
    columns=_COLUMNS,
)

_ALL_AFTER = sql(
    """
    SELECT $columns FROM account_lane lane JOIN account ON account.id = lane.account_id
     WHERE (lane.held_at IS NOT NULL OR lane.doubted_at IS NOT NULL) AND lane.account_id > :after
     ORDER BY lane.account_id LIMIT :limit
    """,
    columns=_COLUMNS,
)

_RENEWALS = sql(
    """
    SELECT lane.account_id, lane.renewed_at,
           (lane.held_at IS NOT NULL OR lane.doubted_at IS NOT NULL) AND $has_another_token AS is_due
      FROM account_lane lane JOIN account ON account.id = lane.account_id
     WHERE lane.account_id = ANY (CAST(:ids AS text[]))
    """,
    has_another_token=HAS_ANOTHER_TOKEN,
)

_NEEDS_TOKEN = sql("""
    SELECT EXISTS (SELECT FROM job_queue q JOIN job ON job.id = q.web_app_job_id
                    WHERE q.held AND q.account_id = :account_id  -- paused and held jobs are parked too
                      AND job.status IN $job_awaiting_token)
        OR EXISTS (SELECT FROM job_queue WHERE $claimable AND account_id = :account_id)
""")

_WAITING = sql("""
    SELECT q.web_app_job_id FROM job_queue q JOIN job ON job.id = q.web_app_job_id
     WHERE q.held AND q.account_id = :account_id AND job.status::text = ANY (CAST(:statuses AS text[]))
     ORDER BY q.id LIMIT :limit
""")


@dataclass(frozen=True)
class BlockedAccount:
    """An account that is blocked, as it was read."""

    account_id: AccountId
    reason: str
    token_hash: str | None
    """Of the refresh token; None if the account has none."""
    has_another_token: bool
    """True if its access token is no longer the one that it was blocked for."""
    is_being_unblocked: bool
    """True if some of its jobs were already queued again for the new token."""
    has_expired: bool
    cannot_be_refreshed: bool
    """True if the refresh token has expired too."""


@dataclass(frozen=True)
class Renewal:
    """What is known about an account's last new token."""

    at: datetime | None
    is_due: bool
    """True if the account has a new token but is still blocked for the old one, or that is in doubt."""

    def is_after(self, moment: datetime) -> bool:
        """True if an attempt that began at *moment* was given an older token."""
        return self.is_due or (self.at is not None and moment < self.at)


class Blocks:
    """Reads of `account_lane`, `account` and `job_queue` about blocked accounts."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, account_id: AccountId) -> BlockedAccount | None:
        """The account, whose row in `account_lane` the caller has locked, if it is blocked."""
        row = self._session.execute(_FIND, {"account_id": account_id}).one_or_none()
        return None if row is None else BlockedAccount(**row._mapping)  # noqa: SLF001 - public in spite of its name

    def all_after(self, after: str, limit: int) -> list[BlockedAccount]:
        """Up to *limit* accounts, blocked or with a token in doubt, with ids after *after*, in order; no lock."""
        rows = self._session.execute(_ALL_AFTER, {"after": after, "limit": limit})
        return [BlockedAccount(**row._mapping) for row in rows]  # noqa: SLF001 - public in spite of its name

    def renewals(self, account_ids: Collection[AccountId]) -> dict[AccountId, Renewal]:
        """Whether and when these accounts, whose rows in `account_lane` the caller has locked, got new tokens."""
        rows = self._session.execute(_RENEWALS, {"ids": list(account_ids)})
        return {row.account_id: Renewal(row.renewed_at, row.is_due) for row in rows}

    def needs_token(self, account_id: AccountId) -> bool:
        """True if a job of the account waits for a token, or to be assigned."""
        return bool(self._session.scalars(_NEEDS_TOKEN, {"account_id": account_id}).one())

    def waiting_jobs(self, account_id: AccountId, statuses: Collection[JobStatus], limit: int) -> list[JobId]:
        """Up to *limit* parked jobs of the account with one of these statuses, in the order of their entries."""
        values = {"account_id": account_id, "statuses": [s.value for s in statuses], "limit": limit}
        return list(self._session.scalars(_WAITING, values))
