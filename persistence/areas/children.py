"""
Jobs at areas, as a discovery sees them: which of its children are there already, and which moved along.

A child's identity is its GraphQL URL, path, command, and branch or ''; children have no branch. The shared
unique index lets NULL branches through, so it is guarded by `job_queue.identity`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from persistence.exceptions import Contended
from persistence.jobs.entries import IDENTITY
from persistence.schema.ids import JobId
from persistence.schema.states import JobStatus

_EXISTING = text("""
    SELECT wanted.path, wanted.command, job.id, job.status
      FROM unnest(CAST(:paths AS text[]), CAST(:commands AS text[])) AS wanted(path, command)
     -- One probe a child: whatever the planner believes of a table that was never analyzed.
     CROSS JOIN LATERAL (
         SELECT job.id, job.status::text AS status FROM job
          WHERE job.full_path = wanted.path AND job.command::text = wanted.command
            AND COALESCE(job.branch, '') = '' AND job."gitlabGraphQLUrl" IS NOT DISTINCT FROM :url
          ORDER BY job.created_at, job.id LIMIT 1
     ) job
""")

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

_MOVE = text("""
    UPDATE job SET full_path = moved.path, "updatedAt" = now()
      FROM unnest(CAST(:formers AS text[]), CAST(:paths AS text[])) AS moved(former, path)
     WHERE job.id = ANY (CAST(:ids AS text[])) AND job.full_path = moved.former
       -- the shared unique index would refuse it
       AND NOT EXISTS (SELECT FROM job other
                        WHERE other.full_path = moved.path AND other.branch = job.branch
                          AND other.command = job.command)
    RETURNING job.id
""")

_RELEASE_IDENTITY = text("""
    UPDATE job_queue SET identity = NULL WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND identity IS NOT NULL
    RETURNING web_app_job_id
""")

_SET_IDENTITY = text(f"""
    -- Unless somebody else has it: then this is a job too many, and is left as one of the web app's own.
    UPDATE job_queue q SET identity = job.identity
      FROM (SELECT DISTINCT ON (identity) id, identity
              FROM (SELECT job.id, {IDENTITY.format("job")} AS identity FROM job
                     WHERE job.id = ANY (CAST(:ids AS text[]))) job
             ORDER BY identity, id) job
     WHERE q.web_app_job_id = job.id AND NOT EXISTS (SELECT FROM job_queue o WHERE o.identity = job.identity)
""")  # noqa: S608


@dataclass(frozen=True)
class Child:
    """A job at an area, as it was read."""

    id: JobId
    status: JobStatus


class Children:
    """Jobs of the table `job`, by path and command."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def existing(self, wanted: Collection[tuple[str, str]], url: str | None) -> dict[tuple[str, str], Child]:
        """The jobs that are there already, by (path, command), without a lock; of twins the oldest."""
        values = {"paths": [p for p, _ in wanted], "commands": [c for _, c in wanted], "url": url}
        rows = self._session.execute(_EXISTING, values)
        return {(row.path, row.command): Child(row.id, JobStatus(row.status)) for row in rows}

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

    def move(self, ids: Collection[JobId], paths: Mapping[str, str]) -> None:
        """
        Let jobs that the caller has locked, with their entries, follow their areas to other paths.

        Raises Contended where another transaction has just made a job there.
        """
        if not ids or not paths:
            return
        values = {"ids": sorted(ids), "formers": list(paths), "paths": list(paths.values())}
        moved = sorted(self._session.scalars(_MOVE, values))
        identified = sorted(self._session.scalars(_RELEASE_IDENTITY, {"ids": moved}))
        try:
            self._session.execute(_SET_IDENTITY, {"ids": identified})
        except IntegrityError as error:  # it was free in the statement's snapshot
            raise Contended("a job of this identity was added by another transaction") from error
