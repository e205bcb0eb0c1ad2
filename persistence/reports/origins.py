"""Reads to which GitLab accounts are bound, for operators."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from persistence.db.snapshot import snapshot
from persistence.origin import origin_of
from persistence.origins.aliases import GitlabAliases
from persistence.origins.configured import allowed_origins
from persistence.schema.gitlabs import gitlab_of
from persistence.schema.reasons import WhyUnbound
from persistence.schema.sql import sql
from persistence.schema.tables import GitlabAlias
from persistence.settings import settings

_MOVED = select(
    GitlabAlias.origin, GitlabAlias.moved_to, GitlabAlias.moved_at, GitlabAlias.carried_at
).order_by(GitlabAlias.moved_at.desc(), GitlabAlias.origin)

_HELD = """(
    SELECT count(*) FROM job_queue q WHERE q.account_id = lane.account_id AND q.hold_reason IS NOT NULL AND q.held)
"""

_ACCOUNTS = sql(
    """
    SELECT lane.account_id, bound.origin, bound.bound_by, bound.bound_at, $held AS held
      FROM account_lane lane LEFT JOIN account_origin bound ON bound.account_id = lane.account_id
     WHERE lane.account_id > :after AND (bound.account_id IS NULL OR NOT :unbound)
       AND (CAST(:origin AS text) IS NULL OR bound.origin = CAST(:origin AS text))
     ORDER BY lane.account_id LIMIT :limit
    """,
    held=_HELD,
)

_SUMMARY = sql("""
    SELECT (SELECT count(*) FROM (
                SELECT FROM job_queue WHERE hold_reason IS NOT NULL AND held LIMIT :limit) held) AS held,
           (SELECT count(*) FROM account_origin WHERE origin <> ALL (CAST(:allowed AS text[]))) AS elsewhere,
           (SELECT count(*) FROM job_assignment_mapping a WHERE a.$live AND a.gitlab_url IS NULL) AS unapproved,
           ARRAY (SELECT origin FROM gitlab_alias WHERE carried_at IS NULL ORDER BY origin) AS unfinished_moves
""")

_UNBOUND = sql("""
    -- Those that have jobs first: these are the ones that are held.
    SELECT account.id, array_agg(DISTINCT job."gitlabGraphQLUrl"::text)
                           FILTER (WHERE job."gitlabGraphQLUrl" IS NOT NULL) AS urls,
           count(*) OVER () AS accounts
      FROM account LEFT JOIN job ON job."accountId" = account.id
     WHERE NOT EXISTS (SELECT FROM account_origin bound WHERE bound.account_id = account.id)
     GROUP BY account.id
     ORDER BY count(job."gitlabGraphQLUrl") = 0, account.id LIMIT :limit
""")

_MOST_HELD = 10_000
_ALL_JOBS_TIMEOUT = timedelta(minutes=10)
"""For the one statement that reads all jobs."""


@dataclass(frozen=True)
class BoundAccount:
    """An account that has or had jobs, and the GitLab to which its token may go."""

    account_id: str
    origin: str | None
    """None if the account is not bound."""
    bound_by: str | None
    bound_at: datetime | None
    held: int
    """Its queued jobs that are held, since they are of another GitLab."""


@dataclass(frozen=True)
class OriginSummary:
    """What an operator should look at."""

    held: int
    """Jobs that are held; at most 10,000 are counted."""
    elsewhere: int
    """Accounts that are bound to a GitLab that `allowed_origins` does not name."""
    unapproved: int
    """Live attempts that an older worker opened: their orders name what the web app wrote into the job."""
    unfinished_moves: list[str]
    """The former origins of GitLabs under which something may still be stored."""


@dataclass(frozen=True)
class UnboundAccount:
    """An account that no GitLab could be found for in its jobs."""

    account_id: str
    why: WhyUnbound


@dataclass(frozen=True)
class UnboundAccounts:
    """The accounts that are bound to no GitLab."""

    count: int
    first: list[UnboundAccount]
    """Those with jobs first, then by their ids."""


def unbound_accounts(limit: int) -> UnboundAccounts:
    """Find the accounts that are bound to no GitLab, and why their jobs do not tell; list *limit* of them. Slow."""
    with snapshot(_ALL_JOBS_TIMEOUT) as connection:
        rows = connection.execute(_UNBOUND, {"limit": limit}).all()
    first = [UnboundAccount(row.id, _why_unbound(row.urls or [])) for row in rows]
    return UnboundAccounts(rows[0].accounts if rows else 0, first)


def _why_unbound(urls: list[str]) -> WhyUnbound:
    if not urls:
        return WhyUnbound.NO_JOB
    return WhyUnbound.JOBS_DISAGREE if all(map(origin_of, urls)) else WhyUnbound.HOST_UNPARSABLE


def bound_accounts(*, origin: str | None, unbound: bool, after: str, limit: int) -> list[BoundAccount]:
    """At most *limit* accounts whose ids follow *after*, in their order; only those of *origin*, or the *unbound*."""
    with snapshot(settings().statement_timeout) as connection:
        GitlabAliases(connection).load()
        named = None if origin is None else gitlab_of(origin) or origin
        values = {"origin": named, "unbound": unbound, "after": after, "limit": limit}
        return [BoundAccount(*row) for row in connection.execute(_ACCOUNTS, values)]


def origin_summary(connection: Connection) -> OriginSummary:
    """Count what is held, bound elsewhere, and was assigned without an approved URL."""
    GitlabAliases(connection).load()
    values = {"limit": _MOST_HELD, "allowed": sorted(allowed_origins())}
    return OriginSummary(*connection.execute(_SUMMARY, values).one())


@dataclass(frozen=True)
class MovedGitlab:
    """A GitLab that has moved."""

    origin: str
    """Where it was."""
    moved_to: str
    moved_at: datetime
    carried_at: datetime | None
    """When all that was stored under the former origin had been carried over."""


def read_moved_gitlabs() -> list[MovedGitlab]:
    """The GitLabs that have moved, the last move first."""
    with snapshot(settings().statement_timeout) as connection:
        return [MovedGitlab(*row) for row in connection.execute(_MOVED)]
