"""Lanes: an account's place in the matchmaking."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from persistence.schema.ids import AccountId
from persistence.schema.sql import CLAIMABLE

EXPIRING = """
    -- A token that was renewed just now is used, however short its life is: it would be renewed for ever.
    COALESCE(account.access_token_expires_at < clock_timestamp() + CAST(:margin AS interval)
             AND COALESCE(turn.renewed_at, '-infinity') < clock_timestamp() - CAST(:margin AS interval), false)
"""
"""Whether the token of an `account` is about to be of no use; *turn* is its lane."""

_WAITING = text(f"""
    -- A loose index scan: one probe a lane, however many entries wait in it, or waited before its bound.
    WITH RECURSIVE lane AS (
        SELECT turn.account_id, turn.claim_from, first.host
          FROM account_lane turn CROSS JOIN LATERAL (
               SELECT host FROM job_queue
                WHERE {CLAIMABLE} AND account_id = turn.account_id AND scheduled_at >= turn.claim_from
                ORDER BY host LIMIT 1) first
         WHERE turn.held_at IS NULL AND turn.paused_at IS NULL
        UNION ALL
        SELECT lane.account_id, lane.claim_from, next.host
          FROM lane CROSS JOIN LATERAL (
               SELECT host FROM job_queue
                WHERE {CLAIMABLE} AND account_id = lane.account_id AND scheduled_at >= lane.claim_from
                  AND host > lane.host
                ORDER BY host LIMIT 1) next
    )
    SELECT lane.account_id, lane.host, turn.last_seated_at,
           {EXPIRING} AS is_expiring
      FROM lane JOIN account_lane turn ON turn.account_id = lane.account_id
                LEFT JOIN account ON account.id = lane.account_id
""")  # noqa: S608 - no input is in it

_REFRESH_CLAIM_FROM = text(f"""
    -- Of each account, host and priority the entry that has waited longest: from the start, so that what came
    -- in behind the bound is found.
    WITH RECURSIVE head AS (
        (SELECT account_id, host, priority, scheduled_at FROM job_queue WHERE {CLAIMABLE}
          ORDER BY account_id, host, priority DESC, scheduled_at LIMIT 1)
        UNION ALL
        SELECT next.* FROM head CROSS JOIN LATERAL (
            (SELECT account_id, host, priority, scheduled_at FROM job_queue
              WHERE {CLAIMABLE} AND account_id = head.account_id AND host = head.host AND priority < head.priority
              ORDER BY priority DESC, scheduled_at LIMIT 1)
            UNION ALL
            (SELECT account_id, host, priority, scheduled_at FROM job_queue
              WHERE {CLAIMABLE} AND (account_id, host) > (head.account_id, head.host)
              ORDER BY account_id, host, priority DESC, scheduled_at LIMIT 1)
            LIMIT 1) next
    ), bound AS (
        SELECT account_id, LEAST(min(scheduled_at), now()) - CAST(:lag AS interval) AS claim_from
          FROM head GROUP BY account_id
    ), opened AS (
        INSERT INTO account_lane (account_id)
        SELECT account_id FROM bound ORDER BY account_id COLLATE "C" ON CONFLICT DO NOTHING
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
""")  # noqa: S608

_OPEN = text("""
    INSERT INTO account_lane (account_id)
    SELECT account_id FROM unnest(CAST(:ids AS text[])) AS new(account_id) ORDER BY account_id COLLATE "C"
    ON CONFLICT DO NOTHING
""")

_LOCK = text("""
    SELECT account_id FROM account_lane WHERE account_id = ANY (CAST(:ids AS text[]))
     ORDER BY account_id COLLATE "C" FOR NO KEY UPDATE
""")

_LOCK_SKIPPING = text("""
    SELECT account_id FROM account_lane WHERE account_id = ANY (CAST(:ids AS text[]))
     ORDER BY account_id COLLATE "C" FOR NO KEY UPDATE SKIP LOCKED
""")

_MARK_ASSIGNED = text("""
    -- A lane that somebody holds keeps its turn: a pass waits for nobody.
    WITH locked AS (
        SELECT account_id FROM account_lane WHERE account_id = ANY (CAST(:ids AS text[]))
         ORDER BY account_id COLLATE "C" FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE account_lane lane SET last_seated_at = clock_timestamp()
      FROM locked WHERE lane.account_id = locked.account_id
""")

_PAUSE = text("""
    UPDATE account_lane SET paused_at = clock_timestamp(), paused_reason = :reason
     WHERE account_id = :account_id AND paused_at IS NULL RETURNING account_id
""")

_RESUME = text("""
    UPDATE account_lane SET paused_at = NULL, paused_reason = NULL
     WHERE account_id = :account_id AND paused_at IS NOT NULL RETURNING account_id
""")


CLAIM_LAG = timedelta(seconds=10)
"""What a transaction that began so long ago has inserted is not passed over."""


@dataclass(frozen=True)
class HostQueue:
    """Claimable entries of one account for one GitLab host."""

    account_id: AccountId
    host: str
    last_seated_at: datetime | None
    is_expiring: bool = False
    """Whether its account's token is about to be of no use."""


class AccountQueues:
    """The table `account_lane`, and the lanes in which something waits."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def waiting(self, margin: timedelta) -> list[HostQueue]:
        """The lanes in which something is claimable, and whose account is neither held nor paused."""
        rows = self._session.execute(_WAITING, {"margin": margin}).all()
        return [HostQueue(row.account_id, row.host, row.last_seated_at, row.is_expiring) for row in rows]

    def refresh_claim_from(self) -> None:
        """
        Note since when the oldest entry of each account has waited, a little less, as `claim_from`.

        Passes look no further back. It is a hint, found anew from the start each time.
        """
        self._session.execute(_REFRESH_CLAIM_FROM, {"lag": CLAIM_LAG})

    def open(self, account_ids: Collection[AccountId]) -> None:
        """Give accounts that have none a place in the matchmaking."""
        self._session.execute(_OPEN, {"ids": list(account_ids)})

    def lock(self, account_ids: Collection[AccountId]) -> None:
        """Lock the lanes of these accounts that have one, in order."""
        if account_ids:
            self._session.execute(_LOCK, {"ids": list(account_ids)})

    def lock_skipping(self, account_ids: Collection[AccountId]) -> set[AccountId]:
        """As `lock`, but what a peer holds is left out; returns those that were locked."""
        return set(self._session.scalars(_LOCK_SKIPPING, {"ids": list(account_ids)}))

    def mark_assigned(self, account_ids: Collection[AccountId]) -> None:
        """These accounts had their turn."""
        self._session.execute(_MARK_ASSIGNED, {"ids": list(account_ids)})

    def pause(self, account_id: AccountId, reason: str | None) -> bool:
        """Let no job of the account be seated, from the next pass on; whether that is news. Its lane is open."""
        values = {"account_id": account_id, "reason": reason}
        return self._session.execute(_PAUSE, values).one_or_none() is not None

    def resume(self, account_id: AccountId) -> bool:
        """Let jobs of the account be seated again; whether that is news."""
        return self._session.execute(_RESUME, {"account_id": account_id}).one_or_none() is not None
