"""
Tokens of accounts: who is held for want of one, who refreshes it, and what waits for that.

Tokens live in `account` alone. They are compared by their SHA-256, which Postgres takes; only the one that
is about to be refreshed is read, by whoever has claimed it for that call.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CursorResult, text
from sqlalchemy.orm import Session

from persistence.jobs.account_queues import EXPIRING
from persistence.sanitize.text import REDACTED
from persistence.schema.ids import AccountId, JobId
from persistence.schema.reasons import BlockReason
from persistence.schema.sql import CLAIMABLE
from persistence.schema.states import JobStatus

_HASH = "encode(sha256(convert_to({0}, 'UTF8')), 'hex')"

HAS_ANOTHER_TOKEN = f"lane.held_token IS DISTINCT FROM {_HASH.format('account.access_token')}"
"""Whether an `account` whose *lane* is held has another token than the one for which it is."""

_BLOCK = text(f"""
    -- Who is held already stays so for the token that it had then: it may have a new one, which nobody has noticed.
    UPDATE account_lane lane
       SET held_at = clock_timestamp(), held_reason = :reason, held_token = {_HASH.format("account.access_token")}
      FROM account
     WHERE lane.account_id = ANY (CAST(:ids AS text[])) AND lane.held_at IS NULL AND account.id = lane.account_id
""")  # noqa: S608 - no input is in it

_BLOCK_EXPIRING = text(f"""
    UPDATE account_lane turn
       SET held_at = clock_timestamp(), held_reason = :reason, held_token = {_HASH.format("account.access_token")}
      FROM account
     WHERE turn.account_id = ANY (CAST(:ids AS text[])) AND turn.held_at IS NULL AND account.id = turn.account_id
       AND {EXPIRING}
    RETURNING turn.account_id
""")  # noqa: S608

_SET_REASON = text("""
    UPDATE account_lane SET held_reason = :reason
     WHERE account_id = :account_id AND held_at IS NOT NULL AND held_reason IS DISTINCT FROM :reason
    RETURNING account_id
""")

_UNBLOCK = text("""
    UPDATE account_lane SET held_at = NULL, held_reason = NULL, held_token = NULL, renewed_at = clock_timestamp()
     WHERE account_id = :account_id
""")

_UNBLOCK_WITHOUT_TOKEN = text("""
    UPDATE account_lane SET held_at = NULL, held_reason = NULL, held_token = NULL WHERE account_id = :account_id
""")

_CONTINUE_UNBLOCKING = text("""
    UPDATE account_lane SET held_token = '', renewed_at = clock_timestamp() WHERE account_id = :account_id
""")

_RENEWALS = text(f"""
    SELECT lane.account_id, lane.renewed_at,
           lane.held_at IS NOT NULL AND {HAS_ANOTHER_TOKEN} AS is_due
      FROM account_lane lane JOIN account ON account.id = lane.account_id
     WHERE lane.account_id = ANY (CAST(:ids AS text[]))
""")  # noqa: S608

_WITHOUT_TOKENS = text("""
    SELECT said.place, replace(said.text, account.access_token, :redacted) AS text
      FROM unnest(CAST(:accounts AS text[]), CAST(:texts AS text[])) WITH ORDINALITY AS said(account_id, text, place)
      JOIN account ON account.id = said.account_id AND account.access_token <> ''
""")

_STATE = f"""
    SELECT lane.account_id, COALESCE(lane.held_reason, '') AS reason,
           {_HASH.format("account.refresh_token")} AS token_hash,
           {HAS_ANOTHER_TOKEN} AS has_another_token,
           COALESCE(lane.held_token = '', false) AS is_being_unblocked,
           COALESCE(account.access_token_expires_at <= clock_timestamp(), false) AS has_expired,
           COALESCE(account.refresh_token_expires_at <= clock_timestamp(), false) AS cannot_be_refreshed
      FROM account_lane lane JOIN account ON account.id = lane.account_id
     WHERE lane.held_at IS NOT NULL
"""  # noqa: S608

_BLOCKED = text(f"{_STATE} AND lane.account_id = :account_id")

_ALL_BLOCKED = text(f"{_STATE} AND lane.account_id > :after ORDER BY lane.account_id LIMIT :limit")

_INSTANCES = text(f"""
    -- The claim index has an account's entries by host: were there two, the first and the last would be of two.
    SELECT DISTINCT lower(substring(job."gitlabGraphQLUrl" FROM '^([A-Za-z]+://[^/]+)'))
      FROM (
          (SELECT q.web_app_job_id FROM job_queue q JOIN job ON job.id = q.web_app_job_id
            WHERE q.held AND q.account_id = :account_id  -- others are held too: paused, or not adopted
              AND job.status IN ('waiting_credential_renewal', 'credential_expired')
            ORDER BY q.id DESC LIMIT :sample)
          UNION ALL
          (SELECT web_app_job_id FROM job_queue
            WHERE {CLAIMABLE} AND account_id = :account_id ORDER BY host LIMIT 1)
          UNION ALL
          (SELECT web_app_job_id FROM job_queue
            WHERE {CLAIMABLE} AND account_id = :account_id ORDER BY host DESC LIMIT 1)
      ) waiting JOIN job ON job.id = waiting.web_app_job_id
""")  # noqa: S608

_SAMPLE = 100
"""Entries that are looked at to learn of which GitLab they are."""

_RESERVE = text("""
    INSERT INTO credential_refresh (account_id, token_hash, claimed_by, started_at)
    VALUES (:account_id, :token_hash, :claimed_by, clock_timestamp())
    ON CONFLICT DO NOTHING
""")

_READ_RESERVATION = text(f"""
    SELECT reservation.outcome, reservation.started_at < clock_timestamp() - CAST(:patience AS interval) AS is_stale,
           reservation.claimed_by = :claimed_by AS is_own, account.refresh_token
      FROM credential_refresh reservation
      LEFT JOIN account ON account.id = reservation.account_id AND reservation.claimed_by = :claimed_by
                       AND {_HASH.format("account.refresh_token")} = reservation.token_hash
     WHERE reservation.account_id = :account_id AND reservation.token_hash = :token_hash
""")  # noqa: S608

_END = text("""
    UPDATE credential_refresh SET ended_at = clock_timestamp(), outcome = :outcome
     WHERE account_id = :account_id AND token_hash = :token_hash AND ended_at IS NULL
""")

_CANCEL_RESERVATION = text("""
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
class BlockedAccount:
    """An account that is held for want of a token, as it was read."""

    account_id: AccountId
    reason: str
    token_hash: str | None
    """Of the refresh token; None where there is none."""
    has_another_token: bool
    """Whether its access token is not the one any more for which it is held."""
    is_being_unblocked: bool
    """Whether some of its jobs were set free for that one already."""
    has_expired: bool
    cannot_be_refreshed: bool
    """Whether the refresh token has expired too."""


@dataclass(frozen=True)
class Renewal:
    """What is known of an account's last new token."""

    at: datetime | None
    is_due: bool
    """It has one for which it is not held, and is not let go yet."""

    def is_after(self, moment: datetime) -> bool:
        """Whether who began at *moment* was given an older token."""
        return self.is_due or (self.at is not None and moment < self.at)


@dataclass(frozen=True)
class RefreshReservation:
    """A claim on a refresh token, as it was read."""

    outcome: str | None
    """None: it has not ended."""
    is_stale: bool
    is_own: bool
    refresh_token: str | None = field(repr=False)
    """Only for whoever claimed it, and while the account has it."""


class Credentials:
    """What of `account`, `account_lane` and `credential_refresh` is about tokens."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def block(self, account_ids: Collection[AccountId], reason: BlockReason) -> None:
        """Let nothing more be seated for these accounts, whose lanes the caller has locked."""
        if account_ids:
            self._session.execute(_BLOCK, {"ids": list(account_ids), "reason": reason.value})

    def block_expiring(self, account_ids: Collection[AccountId], margin: timedelta) -> set[AccountId]:
        """Hold those of the accounts, whose lanes the caller has locked, whose token is still about to expire."""
        values = {"ids": list(account_ids), "margin": margin, "reason": BlockReason.TOKEN_EXPIRING.value}
        return set(self._session.scalars(_BLOCK_EXPIRING, values))

    def set_reason(self, account_id: AccountId, reason: BlockReason) -> bool:
        """Say why a held account is held; whether that is news."""
        values = {"account_id": account_id, "reason": reason.value}
        return self._session.execute(_SET_REASON, values).one_or_none() is not None

    def unblock(self, account_id: AccountId) -> None:
        """The account, whose lane the caller has locked, has a new token."""
        self._session.execute(_UNBLOCK, {"account_id": account_id})

    def continue_unblocking(self, account_id: AccountId) -> None:
        """The same, but more waits than one unit sets free: it stays held, for a token that is none of its own."""
        self._session.execute(_CONTINUE_UNBLOCKING, {"account_id": account_id})

    def renewals(self, account_ids: Collection[AccountId]) -> dict[AccountId, Renewal]:
        """Whether and when these accounts, whose lanes the caller has locked, got a new token."""
        rows = self._session.execute(_RENEWALS, {"ids": list(account_ids)})
        return {row.account_id: Renewal(row.renewed_at, row.is_due) for row in rows}

    def without_tokens(self, messages: Sequence[tuple[AccountId, str]]) -> list[str]:
        """These texts about accounts, with each account's own access token taken out."""
        values = {
            "accounts": [id_ for id_, _ in messages],
            "texts": [text for _, text in messages],
            "redacted": REDACTED,
        }
        redacted = {row.place: row.text for row in self._session.execute(_WITHOUT_TOKENS, values)}
        return [redacted.get(place, text) for place, (_, text) in enumerate(messages, 1)]

    def blocked(self, account_id: AccountId) -> BlockedAccount | None:
        """The account, whose lane the caller has locked, if it is held."""
        row = self._session.execute(_BLOCKED, {"account_id": account_id}).one_or_none()
        return None if row is None else BlockedAccount(**row._mapping)  # noqa: SLF001 - public in spite of its name

    def all_blocked(self, after: str, limit: int) -> list[BlockedAccount]:
        """At most *limit* held accounts, in order, behind the id *after*, without a lock."""
        rows = self._session.execute(_ALL_BLOCKED, {"after": after, "limit": limit})
        return [BlockedAccount(**row._mapping) for row in rows]  # noqa: SLF001 - public in spite of its name

    def unblock_without_token(self, account_id: AccountId) -> None:
        """The account, whose lane the caller has locked, is not held any more; it has no new token."""
        self._session.execute(_UNBLOCK_WITHOUT_TOKEN, {"account_id": account_id})

    def instances(self, account_id: AccountId) -> set[str | None]:
        """
        Scheme and host, in small letters, of each GitLab for which jobs of the account wait, as far as can be seen.

        None stands for jobs without a URL; there is nothing where no job waits, for a token or for its turn.
        """
        return set(self._session.scalars(_INSTANCES, {"account_id": account_id, "sample": _SAMPLE}))

    def reserve_refresh(
        self, account_id: AccountId, token_hash: str, claimed_by: str, patience: timedelta
    ) -> RefreshReservation:
        """Claim a refresh token, once for all; what has become of the claim, if it was claimed before."""
        values = {"account_id": account_id, "token_hash": token_hash, "claimed_by": claimed_by}
        self._session.execute(_RESERVE, values)
        row = self._session.execute(_READ_RESERVATION, values | {"patience": patience}).one()
        return RefreshReservation(row.outcome, row.is_stale, row.is_own, row.refresh_token)

    def end_reservation(self, account_id: AccountId, token_hash: str, outcome: str) -> None:
        """Say what has become of a claim."""
        values = {"account_id": account_id, "token_hash": token_hash, "outcome": outcome}
        self._session.execute(_END, values)

    def cancel_reservation(self, account_id: AccountId, token_hash: str, claimed_by: str) -> None:
        """The token was surely not used: it may be claimed again."""
        values = {"account_id": account_id, "token_hash": token_hash, "claimed_by": claimed_by}
        self._session.execute(_CANCEL_RESERVATION, values)

    def write_tokens(
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

    def mark_waiting(self, job_ids: Iterable[JobId]) -> set[JobId]:
        """Jobs that the caller has locked wait for a token; returns those that were to be crawled."""
        return self._change(_WAIT, job_ids)

    def mark_expired(self, job_ids: Iterable[JobId]) -> set[JobId]:
        """Jobs that the caller has locked need a new authorization."""
        return self._change(_EXPIRE, job_ids)

    def renew(self, job_ids: Iterable[JobId]) -> set[JobId]:
        """Jobs that the caller has locked are queued again."""
        return self._change(_RENEW, job_ids)

    def _change(self, statement: Any, job_ids: Iterable[JobId]) -> set[JobId]:
        wanted = sorted(job_ids)
        return set(self._session.scalars(statement, {"ids": wanted})) if wanted else set()
