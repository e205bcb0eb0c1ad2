"""The jobs at areas: those that a discovery queues again, and those that move with their area."""

from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from persistence.schema.commands import Command
from persistence.schema.gitlabs import is_same
from persistence.schema.ids import JobId
from persistence.schema.paths import all_spellings_of, spellings_of
from persistence.schema.sql import sql

_RENEWABLE = sql(
    """
    SELECT job.id, job.url FROM unnest(CAST(:paths AS text[])) AS wanted(path)
     CROSS JOIN LATERAL (  -- one probe per path, whatever the planner's estimate of a table that was never analyzed
         SELECT job.id, job."gitlabGraphQLUrl" AS url FROM job
          WHERE job.full_path = ANY ($spellings)
            AND (job.status = $job_failed
                 OR job.command::text = '$discovery' AND job.status = $job_finished
                    AND job.finished_at < clock_timestamp() - CAST(:interval AS interval))
            AND COALESCE(job.branch, '') = ''
         OFFSET 0
     ) job
    """,
    discovery=Command.GROUP_PROJECT_DISCOVERY.value,
    spellings=spellings_of("wanted.path"),
)

_AT_PATHS = sql(
    'SELECT id, "gitlabGraphQLUrl" AS url FROM job WHERE full_path = ANY ($spellings)',
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
        values = {"paths": sorted(set(paths)), "interval": again_after}
        return _at_gitlab(self._session.execute(_RENEWABLE, values), url)

    def at_paths(self, paths: Collection[str], url: str | None) -> set[JobId]:
        """All jobs at these paths on this GitLab, without a lock."""
        if not paths:
            return set()
        return _at_gitlab(self._session.execute(_AT_PATHS, {"paths": list(paths)}), url)


def _at_gitlab(found: Iterable[Row[Any]], url: str | None) -> set[JobId]:
    """Those of the found jobs that are at the GitLab of this URL."""
    return {JobId(row.id) for row in found if is_same(row.url, url)}
