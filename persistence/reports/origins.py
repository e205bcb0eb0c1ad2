"""Reads to which GitLab accounts are bound, for operators."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from persistence.db.snapshot import snapshot
from persistence.schema.sql import sql
from persistence.settings import settings

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
           (SELECT count(*) FROM job_assignment_mapping a WHERE a.$live AND a.gitlab_url IS NULL) AS unapproved
""")

_MOST_HELD = 10_000


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


def bound_accounts(*, origin: str | None, unbound: bool, after: str, limit: int) -> list[BoundAccount]:
    """At most *limit* accounts whose ids follow *after*, in their order; only those of *origin*, or the *unbound*."""
    values = {"origin": origin, "unbound": unbound, "after": after, "limit": limit}
    with snapshot(settings().statement_timeout) as connection:
        return [BoundAccount(*row) for row in connection.execute(_ACCOUNTS, values)]


def origin_summary(connection: Connection) -> OriginSummary:
    """Count what is held, bound elsewhere, and was assigned without an approved URL."""
    values = {"limit": _MOST_HELD, "allowed": sorted(settings().allowed_origins)}
    return OriginSummary(*connection.execute(_SUMMARY, values).one())
