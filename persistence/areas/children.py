"""The jobs at areas: those that a discovery queues again, and those that move with their area."""

from collections.abc import Collection, Iterable
from datetime import timedelta

from sqlalchemy.orm import Session

from persistence.schema.commands import Command
from persistence.schema.ids import JobId
from persistence.schema.paths import all_spellings_of, spellings_of
from persistence.schema.sql import sql

_RENEWABLE = sql(
    """
    SELECT job.id FROM unnest(CAST(:paths AS text[])) AS wanted(path)
     CROSS JOIN LATERAL (  -- one probe per path, whatever the planner's estimate of a table that was never analyzed
         SELECT job.id FROM job
          WHERE job.full_path = ANY ($spellings)
            AND (job.status = $job_failed
                 OR job.command::text = '$discovery' AND job.status = $job_finished
                    AND job.finished_at < clock_timestamp() - CAST(:interval AS interval))
            AND COALESCE(job.branch, '') = '' AND job."gitlabGraphQLUrl" IS NOT DISTINCT FROM :url
         OFFSET 0
     ) job
    """,
    discovery=Command.GROUP_PROJECT_DISCOVERY.value,
    spellings=spellings_of("wanted.path"),
)

_AT_PATHS = sql(
    """
    SELECT id FROM job WHERE full_path = ANY ($spellings) AND "gitlabGraphQLUrl" IS NOT DISTINCT FROM :url
    """,
    spellings=all_spellings_of(":paths"),
)


class Children:
    """Lookups in the table `job`, by path."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def renewable(self, paths: Iterable[str], url: str | None, again_after: timedelta) -> set[JobId]:
        """
        The jobs at these paths that a discovery queues again, without a lock.

        These are failed jobs, and discoveries that finished longer than *again_after* ago.
        """
        values = {"paths": sorted(set(paths)), "url": url, "interval": again_after}
        return set(self._session.scalars(_RENEWABLE, values))

    def at_paths(self, paths: Collection[str], url: str | None) -> set[JobId]:
        """All jobs at these paths on this GitLab, without a lock."""
        if not paths:
            return set()
        return {JobId(id_) for id_ in self._session.scalars(_AT_PATHS, {"paths": list(paths), "url": url})}
