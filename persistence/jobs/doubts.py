"""
Doubts about tokens: a crawler says that an account's token has died, and nothing else says so yet.

A doubt blocks nobody. It names the token by its hash (`account_lane.held_token`), as a block does. It ends when the
account gets another token, when its GitLab or the progress of a job answers, or with its time.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from persistence.schema.ids import AccountId
from persistence.schema.reasons import BlockReason
from persistence.schema.sql import HAS_ANOTHER_TOKEN, fragment, sql
from persistence.settings import settings

ENOUGH_JOBS = 3
"""So many distinct jobs that say so, with no progress in between, block their account for a time."""

_SAMPLE = 100
"""Parked entries of an account that are read for them."""

_RECENT = 1000
"""Jobs that ended last, whichever accounts', among which one that completed is looked for."""

_WORKED = """
    -- Counts, not the start alone: that needs no token.
    (EXISTS (SELECT FROM job_assignment_mapping a JOIN job ON job.id = a.web_app_job_id
              WHERE a.$live AND a.account_id = $account AND a.progressed_at > $since
                AND job.progress ->> 'crawlerJobId' = a.crawler_job_id
                AND job.progress @? '$$.counts.* ? (@ > 0)')
     OR EXISTS (SELECT FROM (SELECT account_id, status, settled_at FROM job_queue WHERE settled_at IS NOT NULL
                              ORDER BY GREATEST(kept_at, settled_at) DESC LIMIT :recent) recent
                 WHERE account_id = $account AND status = $entry_completed AND settled_at > $since))
"""
"""True if a job of an account has progressed since a moment: its token works."""

_UNDOUBTED = sql("""
    SELECT account.id FROM account LEFT JOIN account_lane lane ON lane.account_id = account.id
     WHERE account.id = ANY (CAST(:ids AS text[])) AND lane.held_at IS NULL AND lane.doubted_at IS NULL
       AND COALESCE(account.access_token_expires_at > clock_timestamp(), true)
""")

_EXPIRED = sql("""
    SELECT id FROM account WHERE id = ANY (CAST(:ids AS text[])) AND access_token_expires_at <= clock_timestamp()
""")

_BEGIN = sql("""
    UPDATE account_lane lane SET doubted_at = clock_timestamp(), held_token = $access_token_hash
      FROM account
     WHERE lane.account_id = ANY (CAST(:ids AS text[])) AND lane.held_at IS NULL AND lane.doubted_at IS NULL
       AND account.id = lane.account_id
""")

_REPORTS = """
    SELECT last.said_at, c.crawler_credential
      FROM (SELECT web_app_job_id FROM job_queue WHERE held AND account_id = lane.account_id
             ORDER BY id DESC LIMIT :sample) q
      JOIN job ON job.id = q.web_app_job_id AND job.status = $job_waiting_credential_renewal
     CROSS JOIN LATERAL (
           SELECT completed_at AS said_at, connection_id FROM job_assignment_mapping a
            WHERE a.web_app_job_id = q.web_app_job_id ORDER BY completed_at DESC NULLS LAST LIMIT 1) last
      LEFT JOIN socket_connection c ON c.id = last.connection_id
"""
"""What the jobs of an account say that wait for its token: when each said so, and by whose crawler."""

_AGREED = sql(
    """
    SELECT lane.account_id FROM account_lane lane CROSS JOIN LATERAL (
           SELECT count(*) AS jobs, min(said_at) AS since FROM (
               SELECT said_at FROM ($reports) report ORDER BY said_at DESC LIMIT :enough) last) told
     WHERE lane.account_id = ANY (CAST(:ids AS text[])) AND lane.held_at IS NULL
       AND (lane.probing_at IS NOT NULL OR told.jobs = :enough AND NOT $worked)
    """,
    reports=fragment(_REPORTS),
    worked=fragment(_WORKED, account="lane.account_id", since="told.since"),
)

_PROVEN = sql(
    """
    SELECT lane.account_id FROM account_lane lane CROSS JOIN LATERAL (
           SELECT max(said_at) FILTER (WHERE crawler_credential <> newest) AS since FROM (
               SELECT said_at, crawler_credential,
                      first_value(crawler_credential) OVER (ORDER BY said_at DESC) AS newest
                 FROM ($reports) report WHERE crawler_credential IS NOT NULL) by_credential) told
     WHERE lane.account_id = ANY (CAST(:ids AS text[])) AND lane.doubted_at IS NOT NULL
       AND told.since IS NOT NULL AND NOT $worked
    """,
    reports=fragment(_REPORTS),
    worked=fragment(_WORKED, account="lane.account_id", since="told.since"),
)

_BLOCK = sql(
    """
    UPDATE account_lane SET held_at = clock_timestamp(), held_reason = '$token_doubted', probing_at = NULL
     WHERE account_id = ANY (CAST(:ids AS text[])) AND held_at IS NULL AND doubted_at IS NOT NULL
    """,
    token_doubted=BlockReason.TOKEN_DOUBTED,
)

_FIND = sql(
    """
    SELECT lane.account_id, account.access_token, $access_token_hash AS token_hash,
           account.refresh_token IS NOT NULL AS is_oauth, $has_another_token AS has_another_token,
           lane.held_at IS NOT NULL AS is_blocked,
           COALESCE(lane.probing_at, lane.held_at, lane.doubted_at) AS since,
           COALESCE(lane.probing_at, lane.held_at, lane.doubted_at)
               NOT BETWEEN clock_timestamp() - CAST(:doubt AS interval) AND clock_timestamp() AS is_over,
           COALESCE(account.access_token_expires_at <= clock_timestamp(), false) AS has_expired
      FROM account_lane lane JOIN account ON account.id = lane.account_id
     WHERE lane.account_id = :account_id AND lane.doubted_at IS NOT NULL
       AND (lane.held_at IS NULL OR lane.held_reason = '$token_doubted')
    """,
    has_another_token=HAS_ANOTHER_TOKEN,
    token_doubted=BlockReason.TOKEN_DOUBTED,
)

_HAS_WORKED = sql(
    "SELECT $worked",
    worked=fragment(_WORKED, account=":account_id", since="CAST(:since AS timestamptz)"),
)

_PROBE = sql("""
    UPDATE account_lane SET held_at = NULL, held_reason = NULL, probing_at = clock_timestamp()
     WHERE account_id = :account_id
""")

_END = sql("""
    UPDATE account_lane
       SET doubted_at = NULL, probing_at = NULL, held_at = NULL, held_reason = NULL, held_token = NULL
     WHERE account_id = :account_id
""")


@dataclass(frozen=True)
class Doubt:
    """A token that is in doubt, as it was read."""

    account_id: AccountId
    access_token: str = field(repr=False)
    token_hash: str
    is_oauth: bool
    """False for a personal access token."""
    has_another_token: bool
    """True if the account's token is no longer the one that is in doubt."""
    is_blocked: bool
    """True if enough jobs agree, so that the account is blocked for a time."""
    since: datetime
    is_over: bool
    """True if it has lasted for its time."""
    has_expired: bool


class Doubts:
    """The columns of `account_lane` about tokens in doubt."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def undoubted(self, account_ids: Collection[AccountId]) -> set[AccountId]:
        """Those of the accounts whose token is neither known to be dead nor in doubt."""
        return set(self._session.scalars(_UNDOUBTED, {"ids": list(account_ids)}))

    def expired(self, account_ids: Collection[AccountId]) -> set[AccountId]:
        """Those of the accounts whose token has expired."""
        return set(self._session.scalars(_EXPIRED, {"ids": list(account_ids)}))

    def begin(self, account_ids: Collection[AccountId]) -> None:
        """Doubt the tokens of these accounts, whose rows in `account_lane` the caller has locked."""
        self._session.execute(_BEGIN, {"ids": list(account_ids)})

    def agreed(self, account_ids: Collection[AccountId]) -> set[AccountId]:
        """Those of the accounts of which ENOUGH_JOBS say so without progress in between, or whose probe says so."""
        values = {"ids": list(account_ids), "sample": _SAMPLE, "enough": ENOUGH_JOBS, "recent": _RECENT}
        return set(self._session.scalars(_AGREED, values))

    def proven(self, account_ids: Collection[AccountId]) -> set[AccountId]:
        """
        Those of the accounts whose tokens crawlers of two credentials call dead, without progress in between.

        Crawlers without a credential are not told apart: they count as none.
        """
        values = {"ids": list(account_ids), "sample": _SAMPLE, "recent": _RECENT}
        return set(self._session.scalars(_PROVEN, values))

    def block(self, account_ids: Collection[AccountId]) -> None:
        """Block these accounts, whose rows the caller has locked, for a time."""
        if account_ids:
            self._session.execute(_BLOCK, {"ids": list(account_ids)})

    def find(self, account_id: AccountId) -> Doubt | None:
        """The doubt about the token of the account, whose row the caller has locked."""
        values = {"account_id": account_id, "doubt": settings().token_doubt}
        row = self._session.execute(_FIND, values).one_or_none()
        return None if row is None else Doubt(**row._mapping)  # noqa: SLF001 - public in spite of its name

    def has_worked(self, account_id: AccountId, since: datetime) -> bool:
        """True if a job of the account has progressed since then."""
        values = {"account_id": account_id, "since": since, "recent": _RECENT}
        return bool(self._session.scalars(_HAS_WORKED, values).one())

    def probe(self, account_id: AccountId) -> None:
        """Unblock the account, whose row the caller has locked, for one job at a time."""
        self._session.execute(_PROBE, {"account_id": account_id})

    def end(self, account_id: AccountId) -> None:
        """End the doubt about the token of the account, whose row the caller has locked, and the block with it."""
        self._session.execute(_END, {"account_id": account_id})
