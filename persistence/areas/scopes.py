"""The scope of an order for a group: its area by its id, and the paths at which that area is known."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from persistence.schema.commands import AreaType
from persistence.schema.gitlabs import HOST
from persistence.schema.ids import JobId, area_id
from persistence.schema.paths import spellings_of
from persistence.schema.sql import sql

_ORDERED = sql(
    """
    SELECT job.full_path, job."accountId" AS account_id, job.provider::text AS provider,
           COALESCE(area.gitlab_id, q.data ->> 'entity_id') AS gitlab_id
      FROM job
      LEFT JOIN LATERAL (
           SELECT gitlab_id FROM area
            WHERE area.full_path = ANY ($spellings)
              AND (area.full_path = job.full_path
                   OR COALESCE((SELECT host FROM area_host known WHERE known.full_path = area.full_path) = $host, true))
            ORDER BY area.full_path = job.full_path DESC LIMIT 1) area ON true
      LEFT JOIN job_queue q ON q.web_app_job_id = job.id
     WHERE job.id = :id
    """,
    host=HOST,
    spellings=spellings_of("job.full_path"),
)

_AT = sql("""
    SELECT full_path FROM area WHERE gitlab_id = :gitlab_id
    UNION
    SELECT full_path FROM area_change
     WHERE gitlab_id = :gitlab_id AND account_id = :account_id AND status = $change_proposed
""")


@dataclass(frozen=True)
class OrderedGroup:
    """The group that an order is about."""

    gitlab_id: str | None
    """As areas have it; None if it is not known."""
    paths: frozenset[str]
    """The order's own path, that of its area, and those that its account proposes for it."""


class Scopes:
    """Lookups of what an order is about."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def group(self, job_id: JobId) -> OrderedGroup:
        """The group that a job is about, without a lock; without paths if the job has none or is gone."""
        job = self._session.execute(_ORDERED, {"id": job_id}).one_or_none()
        if job is None or job.full_path is None:
            return OrderedGroup(None, frozenset())
        if job.gitlab_id is None:
            return OrderedGroup(None, frozenset({job.full_path}))
        id_ = area_id(job.provider, AreaType.GROUP, job.gitlab_id)
        known = self._session.scalars(_AT, {"gitlab_id": id_, "account_id": job.account_id})
        return OrderedGroup(id_, frozenset({job.full_path, *known}))
