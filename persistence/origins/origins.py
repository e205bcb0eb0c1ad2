"""
The table `account_origin`: to which GitLab the token of each account may go.

A binding is made once, and then only an operator changes it. It is read without a lock: who changes it waits for the
round that may have read it, and looks at what that round has assigned.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from persistence.schema.commands import Command
from persistence.schema.gitlabs import gitlab_of
from persistence.schema.ids import AccountId, JobId
from persistence.schema.reasons import BoundBy, HoldReason
from persistence.schema.sql import among, sql
from persistence.schema.tables import AccountOrigin

_FIND = select(AccountOrigin.account_id, AccountOrigin.origin).where(among(AccountOrigin.account_id))

_FACTS = sql(
    """
    SELECT account.id, account.provider_id::text AS provider_id, account.refresh_token <> '' AS has_refresh_token,
           scope.url AS scope_url
      FROM account
      LEFT JOIN LATERAL (
           SELECT job."gitlabGraphQLUrl" AS url FROM job
            WHERE job."accountId" = account.id AND job.command = '$own_command'
              AND job.full_path IS NULL AND job.branch IS NULL
            LIMIT 1) scope ON true
     WHERE account.id = ANY (CAST(:ids AS text[]))
    """,
    own_command=Command.AUTHORIZATION_SCOPE.value,
)

_BIND_FIRST = sql("""
    INSERT INTO account_origin (account_id, origin, bound_by)
    SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:origins AS text[]), CAST(:by AS text[]))
           AS bound(account_id, origin, bound_by)
     ORDER BY account_id COLLATE "C"
    ON CONFLICT DO NOTHING
""")

_REBIND = sql(
    """
    INSERT INTO account_origin (account_id, origin, bound_by)
    SELECT id, :origin, '$operator' FROM unnest(CAST(:ids AS text[])) AS account(id) ORDER BY id COLLATE "C"
    ON CONFLICT (account_id) DO UPDATE
       SET origin = EXCLUDED.origin, bound_by = EXCLUDED.bound_by, bound_at = clock_timestamp()
     WHERE account_origin.origin <> EXCLUDED.origin OR account_origin.bound_by <> EXCLUDED.bound_by
    RETURNING account_id
    """,
    operator=BoundBy.OPERATOR.value,
)

_CARRY = sql("""
    UPDATE account_origin SET origin = :origin, bound_at = clock_timestamp()
     WHERE account_id = ANY (CAST(:ids AS text[])) AND origin = :former
""")

_BOUND_TO = sql("""
    SELECT account_id FROM account_origin WHERE origin = :origin AND account_id > :after
     ORDER BY account_id LIMIT :limit
""")

_RELEASABLE = sql("""
    SELECT q.web_app_job_id FROM job_queue q
      JOIN account_origin bound ON bound.account_id = q.account_id
      JOIN job ON job.id = q.web_app_job_id AND job.status = $job_queued
      LEFT JOIN gitlab_alias moved ON moved.origin = bound.origin
      LEFT JOIN gitlab_alias held ON held.origin = q.hold_origin
     WHERE q.hold_reason IS NOT NULL AND q.held
       AND COALESCE(held.moved_to, q.hold_origin, moved.moved_to, bound.origin) = COALESCE(moved.moved_to, bound.origin)
     ORDER BY q.id LIMIT :limit
""")

_UNBOUND = sql(
    """
    -- One job of each account that is held because the account has no GitLab yet.
    SELECT DISTINCT ON (q.account_id) q.web_app_job_id FROM job_queue q
      JOIN job ON job.id = q.web_app_job_id AND job.status = $job_queued
     WHERE q.hold_reason = '$unbound' AND q.held AND q.hold_origin <> ''
       AND NOT EXISTS (SELECT FROM account_origin bound WHERE bound.account_id = q.account_id)
     ORDER BY q.account_id, q.id LIMIT :limit
    """,
    unbound=HoldReason.ORIGIN_UNBOUND.value,
)

_ELSEWHERE = sql("""
    SELECT a.web_app_job_id FROM job_assignment_mapping a
      JOIN account_origin bound ON bound.account_id = a.account_id
      LEFT JOIN gitlab_alias moved ON moved.origin = bound.origin
     WHERE a.$live AND a.gitlab_url <> COALESCE(moved.moved_to, bound.origin)
     ORDER BY a.web_app_job_id LIMIT :limit
""")


@dataclass(frozen=True)
class AccountFacts:
    """What the web app says about an account."""

    provider_id: str | None
    has_refresh_token: bool
    scope_url: str | None
    """The URL of its authorizationScope job."""


class Origins:
    """The table `account_origin`, and what binds an account."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, account_ids: Collection[AccountId]) -> dict[AccountId, str]:
        """Return the origins to which these accounts are bound, as far as they are."""
        if not account_ids:
            return {}
        found = self._session.execute(_FIND, {"ids": list(account_ids)})
        return {AccountId(id_): gitlab_of(origin) or origin for id_, origin in found}

    def facts(self, account_ids: Collection[AccountId]) -> dict[AccountId, AccountFacts]:
        """Return what the web app says about these accounts."""
        rows = self._session.execute(_FACTS, {"ids": list(account_ids)})
        return {
            row.id: AccountFacts(row.provider_id, bool(row.has_refresh_token), row.scope_url) for row in rows
        }

    def bind_first(self, bound: Mapping[AccountId, tuple[str, BoundBy]]) -> None:
        """Bind accounts that have no binding; one that another transaction binds meanwhile keeps that."""
        values = {
            "ids": list(bound),
            "origins": [origin for origin, _ in bound.values()],
            "by": [by.value for _, by in bound.values()],
        }
        self._session.execute(_BIND_FIRST, values)

    def rebind(self, account_ids: Collection[AccountId], origin: str) -> set[AccountId]:
        """Bind accounts, as an operator says, to another origin; return those whose binding changed."""
        return set(self._session.scalars(_REBIND, {"ids": list(account_ids), "origin": origin}))

    def carry(self, account_ids: Collection[AccountId], former: str, origin: str) -> None:
        """Bind accounts of a GitLab that moved to where it is now. Who bound them stays."""
        values = {"ids": list(account_ids), "former": former, "origin": origin}
        self._session.execute(_CARRY, values)

    def bound_to(self, origin: str, after: str, limit: int) -> list[AccountId]:
        """Return at most *limit* accounts with ids after *after* that are bound to this origin, in order."""
        return list(self._session.scalars(_BOUND_TO, {"origin": origin, "after": after, "limit": limit}))

    def releasable(self, limit: int) -> list[JobId]:
        """Return held jobs whose account is bound to their GitLab by now, without a lock."""
        return list(self._session.scalars(_RELEASABLE, {"limit": limit}))

    def unbound(self, limit: int) -> list[JobId]:
        """Return one held job of each account that is not bound, without a lock."""
        return list(self._session.scalars(_UNBOUND, {"limit": limit}))

    def assigned_elsewhere(self, limit: int) -> list[JobId]:
        """Return jobs with a live attempt at another GitLab than the account's by now, without a lock."""
        return list(self._session.scalars(_ELSEWHERE, {"limit": limit}))
