"""
The table `account_lane`, one row per account: when it was last assigned a job, whether it is blocked, or paused.

*Blocked* (the columns `held_*`) is an account that needs a new token; *paused* one whose jobs somebody wants to wait.
An account's waiting entries are its account queue; those for one GitLab host are a host queue.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from persistence.schema.ids import AccountId
from persistence.schema.reasons import BlockReason
from persistence.schema.sql import among, fragment, sql
from persistence.schema.tables import AccountQueue


def open_queues_of(accounts: str) -> str:
    """The part of a statement that makes rows for accounts that have none; *accounts* is a query of their ids."""
    return fragment(
        """
        INSERT INTO account_lane (account_id)
        SELECT account_id FROM ($accounts) AS wanted(account_id) GROUP BY account_id ORDER BY account_id COLLATE "C"
        ON CONFLICT DO NOTHING
        """,
        accounts=accounts,
    )


def not_before(account: str) -> str:
    """
    When an entry q of *account*, a column, is due that becomes claimable again: not before `claim_from`.

    A round looks no further back than that.
    """
    return fragment(
        "GREATEST(q.scheduled_at, (SELECT claim_from FROM account_lane lane WHERE lane.account_id = $account))",
        account=account,
    )


EXPIRING = """
    -- A token that was renewed just now is used, however short its life is: else it would be renewed for ever.
    COALESCE(account.access_token_expires_at < clock_timestamp() + CAST(:margin AS interval)
             AND COALESCE(turn.renewed_at, '-infinity') < clock_timestamp() - CAST(:margin AS interval), false)
"""
"""True if the token of an `account` expires within :margin; *turn* is its row here."""

_WAITING = sql(
    """
    -- A loose index scan: one probe a host queue, however many entries wait in it, or waited before its bound.
    WITH RECURSIVE lane AS (
        SELECT turn.account_id, turn.claim_from, first.host
          FROM account_lane turn CROSS JOIN LATERAL (
               SELECT host FROM job_queue
                WHERE $claimable AND account_id = turn.account_id AND scheduled_at >= turn.claim_from
                ORDER BY host LIMIT 1) first
         WHERE turn.held_at IS NULL AND turn.paused_at IS NULL
        UNION ALL
        SELECT lane.account_id, lane.claim_from, next.host
          FROM lane CROSS JOIN LATERAL (
               SELECT host FROM job_queue
                WHERE $claimable AND account_id = lane.account_id AND scheduled_at >= lane.claim_from
                  AND host > lane.host
                ORDER BY host LIMIT 1) next
    )
    SELECT lane.account_id, lane.host, turn.last_seated_at,
           $expiring AS is_expiring, turn.probing_at IS NOT NULL AS is_probing
      FROM lane JOIN account_lane turn ON turn.account_id = lane.account_id
                LEFT JOIN account ON account.id = lane.account_id
    """,
    expiring=EXPIRING,
)

_REFRESH_CLAIM_FROM = sql(
    """
    -- Of each account, host and priority the entry that has waited longest: from the start, so that an entry
    -- that was inserted with a time before the bound is found.
    WITH RECURSIVE head AS (
        (SELECT account_id, host, priority, scheduled_at FROM job_queue WHERE $claimable
          ORDER BY account_id, host, priority DESC, scheduled_at LIMIT 1)
        UNION ALL
        SELECT next.* FROM head CROSS JOIN LATERAL (
            (SELECT account_id, host, priority, scheduled_at FROM job_queue
              WHERE $claimable AND account_id = head.account_id AND host = head.host AND priority < head.priority
              ORDER BY priority DESC, scheduled_at LIMIT 1)
            UNION ALL
            (SELECT account_id, host, priority, scheduled_at FROM job_queue
              WHERE $claimable AND (account_id, host) > (head.account_id, head.host)
              ORDER BY account_id, host, priority DESC, scheduled_at LIMIT 1)
            LIMIT 1) next
    ), bound AS (
        SELECT account_id, LEAST(min(scheduled_at), now()) - CAST(:lag AS interval) AS claim_from
          FROM head GROUP BY account_id
    ), opened AS ($open_queues
    ), locked AS (
        SELECT account_id FROM account_lane ORDER BY account_id COLLATE "C" FOR NO KEY UPDATE SKIP LOCKED
    ), new AS (
        SELECT account_id, COALESCE(bound.claim_from, now() - CAST(:lag AS interval)) AS claim_from,
               bound.claim_from IS NOT NULL AS waits
          FROM locked LEFT JOIN bound USING (account_id)
    )
    UPDATE account_lane lane SET claim_from = new.claim_from
      FROM new WHERE lane.account_id = new.account_id AND lane.claim_from <> new.claim_from
                 AND (new.waits OR lane.claim_from <= lane.last_seated_at)
    """,
    open_queues=open_queues_of("SELECT account_id FROM bound"),
)

_OPEN = sql("$open_queues", open_queues=open_queues_of("SELECT unnest(CAST(:ids AS text[]))"))

_ROWS = select(AccountQueue.account_id).where(among(AccountQueue.account_id))
_ORDERED = _ROWS.order_by(AccountQueue.account_id.collate("C"))
_LOCK = _ORDERED.with_for_update(key_share=True)
_LOCK_SKIPPING = _ORDERED.with_for_update(key_share=True, skip_locked=True)

_MARK_ASSIGNED = sql("""
    -- A row that another transaction has locked stays as it is: a round waits for no lock here.
    WITH locked AS (
        SELECT account_id FROM account_lane WHERE account_id = ANY (CAST(:ids AS text[]))
         ORDER BY account_id COLLATE "C" FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE account_lane lane SET last_seated_at = clock_timestamp()
      FROM locked WHERE lane.account_id = locked.account_id
""")

_PAUSE = sql("""
    UPDATE account_lane SET paused_at = clock_timestamp(), paused_reason = :reason
     WHERE account_id = :account_id AND paused_at IS NULL RETURNING account_id
""")

_RESUME = sql("""
    UPDATE account_lane SET paused_at = NULL, paused_reason = NULL
     WHERE account_id = :account_id AND paused_at IS NOT NULL RETURNING account_id
""")

_BLOCK = sql("""
    -- An account that is blocked already stays so for the token that it had then: it may have got a new one since,
    -- which we have not seen yet.
    UPDATE account_lane lane
       SET held_at = clock_timestamp(), held_reason = :reason, held_token = $access_token_hash, doubted_at = NULL,
           probing_at = NULL
      FROM account
     WHERE lane.account_id = ANY (CAST(:ids AS text[])) AND lane.held_at IS NULL AND account.id = lane.account_id
""")

_BLOCK_EXPIRING = sql(
    """
    UPDATE account_lane turn
       SET held_at = clock_timestamp(), held_reason = :reason, held_token = $access_token_hash, doubted_at = NULL,
           probing_at = NULL
      FROM account
     WHERE turn.account_id = ANY (CAST(:ids AS text[])) AND turn.held_at IS NULL AND account.id = turn.account_id
       AND $expiring
    RETURNING turn.account_id
    """,
    expiring=EXPIRING,
)

_SET_BLOCK_REASON = sql("""
    UPDATE account_lane SET held_reason = :reason
     WHERE account_id = :account_id AND held_at IS NOT NULL AND held_reason IS DISTINCT FROM :reason
    RETURNING account_id
""")

_UNBLOCK = sql("""
    UPDATE account_lane SET held_at = NULL, held_reason = NULL, held_token = NULL, renewed_at = clock_timestamp(),
                            doubted_at = NULL, probing_at = NULL
     WHERE account_id = :account_id
""")

_UNBLOCK_WITHOUT_TOKEN = sql("""
    UPDATE account_lane SET held_at = NULL, held_reason = NULL, held_token = NULL
     WHERE account_id = :account_id AND held_at IS NOT NULL
""")

_CONTINUE_UNBLOCKING = sql("""
    UPDATE account_lane SET held_token = '', renewed_at = clock_timestamp() WHERE account_id = :account_id
""")


CLAIM_LAG = timedelta(seconds=10)
"""A round finds what a transaction inserted that began up to this long before."""


@dataclass(frozen=True)
class HostQueue:
    """An account and a GitLab host for which entries are claimable."""

    account_id: AccountId
    host: str
    last_seated_at: datetime | None
    is_expiring: bool = False
    """True if the account's token is about to expire."""
    is_probing: bool = False
    """True if one job at a time is assigned, to see whether the account's token works."""


class AccountQueues:
    """The table `account_lane`, and the host queues in which something waits."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def waiting(self, margin: timedelta) -> list[HostQueue]:
        """
        The host queues in which something is claimable, whose account is neither blocked nor paused.

        *margin*: a token that expires within it is about to expire.
        """
        rows = self._session.execute(_WAITING, {"margin": margin}).all()
        return [
            HostQueue(row.account_id, row.host, row.last_seated_at, row.is_expiring, row.is_probing)
            for row in rows
        ]

    def refresh_claim_from(self) -> None:
        """
        Record as `claim_from` since when the oldest entry of each account has waited, less CLAIM_LAG.

        Rounds look no further back. It is a hint, computed from scratch each time.
        """
        self._session.execute(_REFRESH_CLAIM_FROM, {"lag": CLAIM_LAG})

    def open(self, account_ids: Collection[AccountId]) -> None:
        """Make rows for accounts that have none."""
        self._session.execute(_OPEN, {"ids": list(account_ids)})

    def lock(self, account_ids: Collection[AccountId]) -> None:
        """Lock the rows of these accounts that have one, in order."""
        if account_ids:
            self._session.execute(_LOCK, {"ids": list(account_ids)})

    def lock_skipping(self, account_ids: Collection[AccountId]) -> set[AccountId]:
        """Lock them, except the rows that another transaction has locked; returns the accounts whose row is locked."""
        return set(self._session.scalars(_LOCK_SKIPPING, {"ids": list(account_ids)}))

    def mark_assigned(self, account_ids: Collection[AccountId]) -> None:
        """Record that these accounts were assigned a job just now."""
        self._session.execute(_MARK_ASSIGNED, {"ids": list(account_ids)})

    def pause(self, account_id: AccountId, reason: str | None) -> bool:
        """Assign no job of the account, from the next round on; False if it was paused already. Its row exists."""
        values = {"account_id": account_id, "reason": reason}
        return self._session.execute(_PAUSE, values).one_or_none() is not None

    def resume(self, account_id: AccountId) -> bool:
        """Assign jobs of the account again; False if it was not paused."""
        return self._session.execute(_RESUME, {"account_id": account_id}).one_or_none() is not None

    def block(self, account_ids: Collection[AccountId], reason: BlockReason) -> None:
        """Assign no job of these accounts, whose rows the caller has locked, until they have another token."""
        if account_ids:
            self._session.execute(_BLOCK, {"ids": list(account_ids), "reason": reason.value})

    def block_expiring(self, account_ids: Collection[AccountId], margin: timedelta) -> set[AccountId]:
        """Block those of these accounts, whose rows the caller has locked, whose token expires within *margin*."""
        values = {"ids": list(account_ids), "margin": margin, "reason": BlockReason.TOKEN_EXPIRING.value}
        return set(self._session.scalars(_BLOCK_EXPIRING, values))

    def set_block_reason(self, account_id: AccountId, reason: BlockReason) -> bool:
        """Change why a blocked account is blocked; False if it is not blocked, or for this reason already."""
        values = {"account_id": account_id, "reason": reason.value}
        return self._session.execute(_SET_BLOCK_REASON, values).one_or_none() is not None

    def unblock(self, account_id: AccountId) -> None:
        """The account, whose row the caller has locked, has a new token."""
        self._session.execute(_UNBLOCK, {"account_id": account_id})

    def unblock_without_token(self, account_id: AccountId) -> None:
        """The account, whose row the caller has locked, is blocked no more, without a new token."""
        self._session.execute(_UNBLOCK_WITHOUT_TOKEN, {"account_id": account_id})

    def continue_unblocking(self, account_id: AccountId) -> None:
        """
        The account has a new token, but more jobs wait for it than one unit of work queues again.

        It stays blocked, for a token that no account has, until the last one is queued.
        """
        self._session.execute(_CONTINUE_UNBLOCKING, {"account_id": account_id})
