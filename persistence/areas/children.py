"""Jobs at areas: those that a discovery queues again, and those that move with their area."""

from collections.abc import Collection, Iterable
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from persistence.schema.ids import JobId

_IS_RENEWABLE = """
    (job.status = 'failed'
     OR job.command::text = 'GROUP_PROJECT_DISCOVERY' AND job.status = 'finished'
        AND job.finished_at < clock_timestamp() - CAST(:interval AS interval))
"""

_RENEWABLE = text(f"""
    SELECT job.id FROM unnest(CAST(:paths AS text[])) AS wanted(path)
     CROSS JOIN LATERAL (
         SELECT job.id FROM job
          WHERE job.full_path = wanted.path AND {_IS_RENEWABLE}
            AND COALESCE(job.branch, '') = '' AND job."gitlabGraphQLUrl" IS NOT DISTINCT FROM :url
         OFFSET 0
     ) job
""")  # noqa: S608 - no input is in it

_AT = text("""
    SELECT job.id FROM job
     WHERE job.full_path = ANY (CAST(:paths AS text[])) AND job."gitlabGraphQLUrl" IS NOT DISTINCT FROM :url
""")


class Children:
    """Jobs of the table `job`, by path and command."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def renewable(self, paths: Iterable[str], url: str | None, again_after: timedelta) -> set[JobId]:
        """
        Jobs at these paths that a discovery queues again, without a lock.

        The failed ones, and discoveries that finished longer than *again_after* ago.
        """
        values = {"paths": sorted(set(paths)), "url": url, "interval": again_after}
        return set(self._session.scalars(_RENEWABLE, values))

    def at_paths(self, paths: Collection[str], url: str | None) -> set[JobId]:
        """All jobs at these paths on this GitLab, without a lock."""
        return set(self._session.scalars(_AT, {"paths": list(paths), "url": url})) if paths else set()
