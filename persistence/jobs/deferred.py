"""The table `deferred_job`: discovered jobs that wait outside of the queue until their account has room."""

import json
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from persistence.jobs.jobs import NewJob
from persistence.schema.ids import AccountId, JobId
from persistence.schema.paths import spellings_of
from persistence.schema.sql import among, sql
from persistence.schema.tables import DeferredJob

_COLUMNS = """
    id, account_id, user_id, provider, graphql_url, command, full_path, priority, entity_id, spawned_from
"""

_ADD = sql(
    """
    WITH fresh AS (
        SELECT * FROM jsonb_populate_recordset(NULL::deferred_job, CAST(:rows AS jsonb)) r
         WHERE NOT EXISTS (
                   -- OFFSET keeps this a look-up in the index, row by row: joined by the other columns alone, as a
                   -- planner without statistics would, it compares the path of each with that of each.
                   SELECT FROM deferred_job d
                    WHERE COALESCE(d.graphql_url, '') = COALESCE(r.graphql_url, '')
                      AND d.full_path = ANY ($spellings) AND d.command = r.command OFFSET 0)
    ), room AS (
        -- Counted no further than the limit: one index-only scan of what the account has.
        SELECT :limit - count(*) AS jobs
          FROM (SELECT FROM deferred_job WHERE account_id = :account_id LIMIT :limit) deferred
    ), added AS (
        INSERT INTO deferred_job ($columns)
        SELECT $columns FROM fresh
         ORDER BY full_path COLLATE "C", command COLLATE "C" LIMIT (SELECT jobs FROM room)
        ON CONFLICT DO NOTHING RETURNING id
    )
    SELECT (SELECT count(*) FROM added) AS added,
           GREATEST((SELECT count(*) FROM fresh) - (SELECT jobs FROM room), 0) AS beyond_limit
    """,
    columns=_COLUMNS,
    spellings=spellings_of("r.full_path"),
)

_ACCOUNTS = sql("""
    -- A loose index scan: one probe per account, however many jobs are deferred for it.
    WITH RECURSIVE account AS (
        (SELECT account_id FROM deferred_job ORDER BY account_id LIMIT 1)
        UNION ALL
        SELECT next.account_id FROM account CROSS JOIN LATERAL (
            SELECT account_id FROM deferred_job WHERE account_id > account.account_id ORDER BY account_id LIMIT 1
        ) next
    )
    SELECT account.account_id FROM account
      LEFT JOIN account_lane lane ON lane.account_id = account.account_id
     WHERE lane.paused_at IS NULL
""")

_HAS_ANY = select(exists().where(among(DeferredJob.account_id)))

_TAKE = sql(
    """
    DELETE FROM deferred_job WHERE id IN (
        SELECT id FROM deferred_job WHERE account_id = :account_id ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING $columns
    """,
    columns=_COLUMNS,
)

_DROP_ACCOUNTS = sql("DELETE FROM deferred_job WHERE account_id = ANY (CAST(:ids AS text[]))")

_LOCK = """
    SELECT id FROM deferred_job WHERE id = ANY (CAST(:ids AS text[])) ORDER BY id FOR UPDATE
"""

_DELETE = sql(
    "WITH locked AS ($lock) DELETE FROM deferred_job USING locked WHERE deferred_job.id = locked.id",
    lock=_LOCK,
)

_PRIORITIZE = sql(
    """
    WITH locked AS ($lock)
    UPDATE deferred_job SET priority = :priority FROM locked WHERE deferred_job.id = locked.id
    """,
    lock=_LOCK,
)


@dataclass(frozen=True)
class ChildJob:
    """A job that a discovery found, and that is created at once or deferred."""

    job: NewJob
    priority: int
    entity_id: str | None
    is_unique: bool = True
    """False: others may have the same job, since their path has another id."""


@dataclass(frozen=True)
class Deferred:
    """How many jobs were deferred, and how many were not, since their account has reached its limit."""

    added: int = 0
    beyond_limit: int = 0


class DeferredJobs:
    """The table `deferred_job`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, account_id: AccountId, children: Collection[ChildJob], limit: int) -> Deferred:
        """
        Defer jobs of the account for whose path and command none is deferred yet, until it has *limit* of them.

        The caller has locked the account's queue, so that no other unit finds the same room.
        """
        rows = [
            {
                "id": child.job.id,
                "account_id": child.job.account_id,
                "user_id": child.job.user_id,
                "provider": child.job.provider,
                "graphql_url": child.job.graphql_url,
                "command": child.job.command,
                "full_path": child.job.full_path,
                "priority": child.priority,
                "entity_id": child.entity_id,
                "spawned_from": child.job.spawned_from,
            }
            for child in children
        ]
        if not rows:
            return Deferred()
        values = {"rows": json.dumps(rows), "account_id": account_id, "limit": limit}
        return Deferred(*self._session.execute(_ADD, values).one())

    def accounts(self) -> list[AccountId]:
        """The accounts that have deferred jobs and are not paused, in order."""
        return list(self._session.scalars(_ACCOUNTS))

    def has_any(self, account_ids: Collection[AccountId]) -> bool:
        """True if a job is deferred for one of these accounts."""
        return bool(self._session.scalars(_HAS_ANY, {"ids": list(account_ids)}).one())

    def take(self, account_id: AccountId, limit: int) -> list[ChildJob]:
        """Delete at most *limit* deferred jobs of the account, the oldest, and return them in id order."""
        rows = self._session.execute(_TAKE, {"account_id": account_id, "limit": limit})
        return [
            ChildJob(
                NewJob(
                    id=row.id,
                    command=row.command,
                    full_path=row.full_path,
                    branch=None,
                    account_id=row.account_id,
                    user_id=row.user_id,
                    provider=row.provider,
                    graphql_url=row.graphql_url,
                    spawned_from=row.spawned_from,
                ),
                row.priority,
                row.entity_id,
            )
            for row in sorted(rows, key=lambda row: str(row.id))
        ]

    def drop_accounts(self, account_ids: Collection[str]) -> None:
        """Delete what is deferred for accounts that no longer exist."""
        self._session.execute(_DROP_ACCOUNTS, {"ids": list(account_ids)})

    def delete(self, ids: Collection[JobId]) -> None:
        """Delete deferred jobs."""
        self._session.execute(_DELETE, {"ids": list(ids)})

    def prioritize(self, ids: Collection[JobId], priority: int) -> None:
        """Give deferred jobs this priority."""
        self._session.execute(_PRIORITIZE, {"ids": list(ids), "priority": priority})
