"""Reads areas and jobs whose paths differ in case alone, as they were made while paths were compared with it."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from persistence.areas.areas import HOST_OF_AREA
from persistence.jobs.identity import identity
from persistence.jobs.jobs import NewJob
from persistence.schema.commands import Command
from persistence.schema.ids import JobId
from persistence.schema.paths import spellings_of
from persistence.schema.sql import sql
from persistence.schema.states import JobStatus

_KEYS = sql("""
    SELECT DISTINCT path_key FROM path_spelling WHERE path_key > :after ORDER BY path_key LIMIT :limit
""")

_AREAS = sql(
    """
    SELECT asked.key, area.full_path, $host AS host
      FROM unnest(CAST(:keys AS text[])) AS asked(key)
     CROSS JOIN LATERAL (SELECT * FROM area WHERE full_path = ANY ($spellings) OFFSET 0) area
     ORDER BY asked.key, EXISTS (SELECT FROM area_host known WHERE known.full_path = area.full_path) DESC,
              area.created_at DESC NULLS LAST, area.full_path
    """,
    host=HOST_OF_AREA,
    spellings=spellings_of("asked.key"),
)

_JOBS = sql(
    """
    SELECT job.id, job.status::text AS status, job.full_path, job.created_at, q.identity AS stored,
           job.command::text AS command, job.branch, job."accountId" AS account_id, job."gitlabGraphQLUrl" AS url
      FROM unnest(CAST(:keys AS text[])) AS asked(key)
     CROSS JOIN LATERAL (SELECT * FROM job WHERE full_path = ANY ($spellings) OFFSET 0) job
      LEFT JOIN job_queue q ON q.web_app_job_id = job.id
     WHERE job.command <> '$own_command'
       -- An older database's jobs are left alone until they are adopted, and a job for another id is another job.
       AND NOT EXISTS (SELECT FROM adoption WHERE job.created_at <= adopted_from)
       AND q.data -> 'without_area' IS NULL
     ORDER BY job.created_at DESC, job.id DESC
    """,
    spellings=spellings_of("asked.key"),
    own_command=Command.AUTHORIZATION_SCOPE.value,
)


class AreaAt(NamedTuple):
    """An area at a path with a known spelling."""

    key: str
    """The path without capitals."""
    full_path: str
    host: str | None


class JobAt(NamedTuple):
    """A job at a path with a known spelling."""

    id: JobId
    status: JobStatus
    full_path: str
    created_at: datetime
    identity: str | None
    stored: str | None
    """The identity that its entry has."""
    url: str | None = None


class Duplicates:
    """Lookups by paths that have spellings with capitals, without locks."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def keys(self, after: str, limit: int) -> list[str]:
        """The next paths that have been spelled with capitals, in order, without these."""
        return list(self._session.scalars(_KEYS, {"after": after, "limit": limit}))

    def areas(self, keys: Collection[str]) -> list[AreaAt]:
        """The areas at these paths; of one path the discovered first, then the newest."""
        return [AreaAt(*row) for row in self._session.execute(_AREAS, {"keys": list(keys)})]

    def jobs(self, keys: Collection[str]) -> list[JobAt]:
        """The jobs at these paths that have an identity, the newest first."""
        rows = self._session.execute(_JOBS, {"keys": list(keys)})
        return [_job_at(row) for row in rows]


def _job_at(row: Any) -> JobAt:
    job = NewJob(
        row.id, row.command, row.full_path, row.branch, row.account_id, None, None, graphql_url=row.url
    )
    return JobAt(
        row.id, JobStatus(row.status), row.full_path, row.created_at, identity(job), row.stored, row.url
    )
