"""
Tokens of accounts: who is held for want of one, who refreshes it, and what waits for that.

Tokens live in `account` alone. They are compared by their SHA-256, which Postgres takes; the one that is
about to be refreshed is read for that call, and nothing else.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CursorResult, text
from sqlalchemy.orm import Session

from persistence.schema.dispatch import CLAIMABLE
from persistence.schema.vocabulary import AccountId, HoldReason, JobId, JobStatus

_HASH = "encode(sha256(convert_to({0}, 'UTF8')), 'hex')"

_HOLD = text(f"""
    UPDATE account_lane lane
       SET held_at = COALESCE(lane.held_at, clock_timestamp()), held_reason = :reason,
           held_token = (SELECT {_HASH.format("account.access_token")} FROM account WHERE account.id = lane.account_id)
     WHERE lane.account_id = ANY (CAST(:ids AS text[]))
       AND (lane.held_at IS NULL OR lane.held_reason = 'token_expiring')
""")  # noqa: S608 - no input is in it

_SET_REASON = text("""
    UPDATE account_lane SET held_reason = :reason
     WHERE account_id = :account_id AND held_at IS NOT NULL AND held_reason IS DISTINCT FROM :reason
    RETURNING account_id
""")

_LET_GO = text("""
    UPDATE account_lane SET held_at = NULL, held_reason = NULL, held_token = NULL, renewed_at = clock_timestamp()
     WHERE account_id = :account_id
""")

_FORGET_HOLD = text("""
    UPDATE account_lane SET held_at = NULL, held_reason = NULL, held_token = NULL WHERE account_id = :account_id
""")

_GO_ON_LETTING_GO = text("""
    UPDATE account_lane SET held_token = '', renewed_at = clock_timestamp() WHERE account_id = :account_id
""")

_RENEWED_AT = text("""
    SELECT account_id, renewed_at FROM account_lane
     WHERE account_id = ANY (CAST(:ids AS text[])) AND renewed_at IS NOT NULL
""")

_STATE = f"""
    SELECT lane.account_id, COALESCE(lane.held_reason, '') AS reason, account.refresh_token,
           {_HASH.format("account.refresh_token")} AS token_hash,
           lane.held_token IS DISTINCT FROM {_HASH.format("account.access_token")} AS has_another_token,
           COALESCE(account.access_token_expires_at <= clock_timestamp(), false) AS has_expired,
           COALESCE(account.refresh_token_expires_at <= clock_timestamp(), false) AS cannot_be_refreshed
      FROM account_lane lane JOIN account ON account.id = lane.account_id
     WHERE lane.held_at IS NOT NULL
"""  # noqa: S608

_HELD = text(f"{_STATE} AND lane.account_id = :account_id")

_ALL_HELD = text(f"{_STATE} AND lane.account_id > :after ORDER BY lane.account_id LIMIT :limit")

_WAITERS = f"""
          (SELECT q.web_app_job_id FROM job_queue q JOIN job ON job.id = q.web_app_job_id
            WHERE q.held AND q.account_id = :account_id  -- others are held too: paused, or not adopted
              AND job.status IN ('waiting_credential_renewal', 'credential_expired')
            ORDER BY q.id DESC LIMIT 1)
          UNION ALL
          (SELECT web_app_job_id FROM job_queue WHERE {CLAIMABLE} AND account_id = :account_id LIMIT 1)
"""  # noqa: S608

_IS_WAITED_FOR = text(f"SELECT EXISTS ({_WAITERS})")

_INSTANCE = text(f"""
    SELECT lower(substring(job."gitlabGraphQLUrl" FROM '^([A-Za-z]+://[^/]+)'))
      FROM ({_WAITERS}) waiting JOIN job ON job.id = waiting.web_app_job_id
     WHERE job."gitlabGraphQLUrl" IS NOT NULL LIMIT 1
""")  # noqa: S608

_CLAIM = text("""
    INSERT INTO credential_refresh (account_id, token_hash, claimed_by, started_at)
    VALUES (:account_id, :token_hash, :claimed_by, clock_timestamp())
    ON CONFLICT DO NOTHING
""")

_CLAIMED = text("""
    SELECT claimed_by = :claimed_by AS is_mine, ended_at IS NOT NULL AS has_ended,
           started_at < clock_timestamp() - CAST(:patience AS interval) AS is_stale
      FROM credential_refresh WHERE account_id = :account_id AND token_hash = :token_hash
""")

_END = text("""
    UPDATE credential_refresh SET ended_at = clock_timestamp(), outcome = :outcome
     WHERE account_id = :account_id AND token_hash = :token_hash AND ended_at IS NULL
""")

_GIVE_UP_CLAIM = text("""
    -- One's own: where a commit was in doubt, another run may have claimed it since, and be calling.
    DELETE FROM credential_refresh
     WHERE account_id = :account_id AND token_hash = :token_hash AND claimed_by = :claimed_by AND ended_at IS NULL
""")

_WRITE = text(f"""
    UPDATE account
       SET access_token = :access_token, refresh_token = COALESCE(:refresh_token, refresh_token),
           access_token_expires_at = clock_timestamp() + CAST(:lifetime AS interval), updated_at = now()
     WHERE id = :account_id AND {_HASH.format("refresh_token")} = :token_hash
""")  # noqa: S608

_WAITING = text("""
    SELECT q.web_app_job_id FROM job_queue q JOIN job ON job.id = q.web_app_job_id
     WHERE q.held AND q.account_id = :account_id AND job.status::text = ANY (CAST(:statuses AS text[]))
     ORDER BY q.id LIMIT :limit
""")

_WAIT = text("""
    UPDATE job SET status = 'waiting_credential_renewal', "updatedAt" = now()
     WHERE id = ANY (CAST(:ids AS text[])) AND status IN ('queued', 'running') RETURNING id
""")

_EXPIRE = text("""
    UPDATE job SET status = 'credential_expired', "updatedAt" = now()
     WHERE id = ANY (CAST(:ids AS text[])) AND status = 'waiting_credential_renewal' RETURNING id
""")

_RENEW = text("""
    UPDATE job SET status = 'queued', "updatedAt" = now()
     WHERE id = ANY (CAST(:ids AS text[]))
       AND status IN ('waiting_credential_renewal', 'credential_expired', 'credential_renewed') RETURNING id
""")


@dataclass(frozen=True)
class HeldAccount:
    """An account that is held for want of a token, as it was read."""

    account_id: AccountId
    reason: str
    refresh_token: str | None = field(repr=False)
    token_hash: str | None
    """Of the refresh token."""
    has_another_token: bool
    """Whether its access token is not the one any more for which it is held."""
    has_expired: bool
    cannot_be_refreshed: bool
    """Whether the refresh token has expired too."""


@dataclass(frozen=True)
class Claimed:
    """A claim on a refresh token, as it was read."""

    is_mine: bool
    has_ended: bool
    is_stale: bool


class Credentials:
    """What of `account`, `account_lane` and `credential_refresh` is about tokens."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def hold(self, account_ids: Collection[AccountId], reason: HoldReason) -> None:
        """Let nothing more be seated for these accounts, whose lanes the caller has locked."""
        if account_ids:
            self._session.execute(_HOLD, {"ids": list(account_ids), "reason": reason.value})

    def set_reason(self, account_id: AccountId, reason: HoldReason) -> bool:
        """Say why a held account is held; whether that is news."""
        values = {"account_id": account_id, "reason": reason.value}
        return self._session.execute(_SET_REASON, values).one_or_none() is not None

    def let_go(self, account_id: AccountId) -> None:
        """The account, whose lane the caller has locked, has a new token."""
        self._session.execute(_LET_GO, {"account_id": account_id})

    def go_on_letting_go(self, account_id: AccountId) -> None:
        """The same, but more waits than one unit sets free: it stays held, for a token that is none of its own."""
        self._session.execute(_GO_ON_LETTING_GO, {"account_id": account_id})

    def renewed_at(self, account_ids: Collection[AccountId]) -> dict[AccountId, datetime]:
        """When these accounts last got a new token, as far as we know."""
        rows = self._session.execute(_RENEWED_AT, {"ids": list(account_ids)})
        return {row.account_id: row.renewed_at for row in rows}

    def held(self, account_id: AccountId) -> HeldAccount | None:
        """The account, whose lane the caller has locked, if it is held."""
        row = self._session.execute(_HELD, {"account_id": account_id}).one_or_none()
        return None if row is None else HeldAccount(**row._mapping)  # noqa: SLF001 - public in spite of its name

    def all_held(self, after: str, limit: int) -> list[HeldAccount]:
        """At most *limit* held accounts, in order, behind the id *after*, without a lock."""
        rows = self._session.execute(_ALL_HELD, {"after": after, "limit": limit})
        return [HeldAccount(**row._mapping) for row in rows]  # noqa: SLF001 - public in spite of its name

    def forget_hold(self, account_id: AccountId) -> None:
        """The account, whose lane the caller has locked, is not held any more; it has no new token."""
        self._session.execute(_FORGET_HOLD, {"account_id": account_id})

    def is_waited_for(self, account_id: AccountId) -> bool:
        """Whether any job of the account waits: for a token, or for its turn."""
        return bool(self._session.scalars(_IS_WAITED_FOR, {"account_id": account_id}).one())

    def instance(self, account_id: AccountId) -> str | None:
        """Scheme and host of the GitLab for which jobs of the account wait, in small letters."""
        url: str | None = self._session.scalars(_INSTANCE, {"account_id": account_id}).one_or_none()
        return url

    def claim(self, account_id: AccountId, token_hash: str, claimed_by: str, patience: timedelta) -> Claimed:
        """Claim a refresh token, once for all; what has become of the claim if it was claimed before."""
        values = {"account_id": account_id, "token_hash": token_hash, "claimed_by": claimed_by}
        self._session.execute(_CLAIM, values)
        row = self._session.execute(_CLAIMED, values | {"patience": patience}).one()
        return Claimed(row.is_mine, row.has_ended, row.is_stale)

    def end_claim(self, account_id: AccountId, token_hash: str, outcome: str) -> None:
        """Say what has become of a claim."""
        values = {"account_id": account_id, "token_hash": token_hash, "outcome": outcome}
        self._session.execute(_END, values)

    def give_up_claim(self, account_id: AccountId, token_hash: str, claimed_by: str) -> None:
        """The token was surely not used: it may be claimed again."""
        values = {"account_id": account_id, "token_hash": token_hash, "claimed_by": claimed_by}
        self._session.execute(_GIVE_UP_CLAIM, values)

    def write(
        self,
        account_id: AccountId,
        token_hash: str,
        access_token: str,
        refresh_token: str | None,
        lifetime: timedelta | None,
    ) -> bool:
        """Write a new pair, unless the account has another refresh token by now; whether it was written."""
        values = {
            "account_id": account_id,
            "token_hash": token_hash,
            "access_token": access_token,
            "refresh_token": refresh_token,
            "lifetime": lifetime,
        }
        result = self._session.execute(_WRITE, values)
        assert isinstance(result, CursorResult)
        return result.rowcount > 0

    def waiting(self, account_id: AccountId, statuses: Collection[JobStatus], limit: int) -> list[JobId]:
        """At most *limit* jobs of the account that wait for a token in such a way, in the order of their entries."""
        values = {"account_id": account_id, "statuses": [s.value for s in statuses], "limit": limit}
        return list(self._session.scalars(_WAITING, values))

    def wait(self, job_ids: Iterable[JobId]) -> set[JobId]:
        """Jobs that the caller has locked wait for a token; returns those that were to be crawled."""
        return self._change(_WAIT, job_ids)

    def expire(self, job_ids: Iterable[JobId]) -> set[JobId]:
        """Jobs that the caller has locked need a new authorization."""
        return self._change(_EXPIRE, job_ids)

    def renew(self, job_ids: Iterable[JobId]) -> set[JobId]:
        """Jobs that the caller has locked are queued again."""
        return self._change(_RENEW, job_ids)

    def _change(self, statement: Any, job_ids: Iterable[JobId]) -> set[JobId]:
        wanted = sorted(job_ids)
        return set(self._session.scalars(statement, {"ids": wanted})) if wanted else set()
