"""
The identity of a job: what makes it the same job as another one.

With a path it is the command, the URL, the path whatever its case, and the branch or ''. Without a path only a
discovery has one: of everything that its account sees. The shared unique index (path, branch, command) allows any
number of jobs without a branch, and of paths that differ in case alone, so the identity of each job that we make is
kept in `job_queue.identity`, which is unique.

A job that the web app inserted itself has none there; `Identities.twins` finds it by what stands in `job`.
"""

import json
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from persistence.exceptions import Contended
from persistence.jobs.jobs import NewJob
from persistence.schema.commands import Command
from persistence.schema.ids import JobId
from persistence.schema.paths import key_in, path_key, spellings_of
from persistence.schema.sql import fragment, sql
from persistence.schema.states import JobStatus


def identity_of(job: str) -> str:
    """The identity as SQL, of the row that goes by the name *job*; NULL if no other job can be the same."""
    return fragment(
        """
        CASE WHEN $job.full_path IS NOT NULL THEN
            jsonb_build_array($job.command, $job."gitlabGraphQLUrl", $path, COALESCE($job.branch, ''))::text
             WHEN $job.command::text = '$discovery' THEN
            jsonb_build_array($job.command, $job."gitlabGraphQLUrl", NULL::text, $job."accountId")::text
        END
        """,
        job=job,
        path=key_in(f"{job}.full_path"),
        discovery=Command.GROUP_PROJECT_DISCOVERY.value,
    )


_TWINS = sql(
    """
    SELECT DISTINCT ON (wanted.place) wanted.place, job.id, job.status,
           job."gitlabGraphQLUrl" IS NOT DISTINCT FROM wanted.url AS is_same_host
      FROM unnest(CAST(:paths AS text[]), CAST(:branches AS text[]), CAST(:commands AS text[]),
                  CAST(:urls AS text[])) WITH ORDINALITY AS wanted(path, branch, command, url, place)
      JOIN LATERAL (
          SELECT job.id, job.status::text AS status, job.created_at, job."gitlabGraphQLUrl", job.full_path FROM job
           WHERE job.id <> ALL (CAST(:excluding AS text[]))
             AND (CAST(:account_id AS text) IS NULL OR job."accountId" = :account_id)
             AND job.full_path = ANY ($spellings) AND job.command::text = wanted.command
             AND COALESCE(job.branch, '') = COALESCE(wanted.branch, '')
          OFFSET 0 -- one probe by the path for each: joined as a whole, the table was read for each batch
      ) job ON job."gitlabGraphQLUrl" IS NOT DISTINCT FROM wanted.url
            OR wanted.branch IS NOT NULL AND job.full_path = wanted.path -- what the shared unique index compares
     ORDER BY wanted.place, is_same_host DESC, job.created_at, job.id
    """,
    spellings=spellings_of("wanted.path"),
)

_WITH_SAME_IDENTITY = sql(
    """
    SELECT wanted.id, q.web_app_job_id AS twin
      FROM jsonb_populate_recordset(NULL::job, CAST(:rows AS jsonb)) wanted
      JOIN job_queue q ON q.identity = $identity
    """,
    identity=identity_of("wanted"),
)

_RELEASE_MOVED = sql(
    """
    UPDATE job_queue q SET identity = NULL
      FROM job, job AS new
     WHERE new.id = ANY (CAST(:ids AS text[])) AND q.identity = $new
       AND job.id = q.web_app_job_id AND q.identity IS DISTINCT FROM $current
    """,
    new=identity_of("new"),
    current=identity_of("job"),
)

_RELEASE = sql("""
    UPDATE job_queue SET identity = NULL WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND identity IS NOT NULL
    RETURNING web_app_job_id
""")

_SET = sql(
    """
    -- Not one that another entry has: then this job is one too many, and remains like one that the web app inserted.
    UPDATE job_queue q SET identity = job.identity
      FROM (SELECT DISTINCT ON (identity) id, identity
              FROM (SELECT job.id, $identity AS identity FROM job WHERE job.id = ANY (CAST(:ids AS text[]))) job
             ORDER BY identity, id) job
     WHERE q.web_app_job_id = job.id AND NOT EXISTS (SELECT FROM job_queue o WHERE o.identity = job.identity)
    """,
    identity=identity_of("job"),
)


class JobKey(NamedTuple):
    """A path, and what is to be crawled there."""

    command: str
    graphql_url: str | None
    full_path: str
    branch: str | None = None


class Twin(NamedTuple):
    """The job that is the same as another one, as it was read."""

    id: JobId
    status: JobStatus
    is_same_host: bool
    """False: it is at another GitLab, and the shared unique index does not allow both."""


def identity(job: NewJob) -> tuple[str | None, ...] | None:
    """The identity in Python, to compare new jobs; None if no other job can be the same."""
    if job.full_path is not None:
        return (job.command, job.graphql_url, path_key(job.full_path), job.branch or "")
    if is_account_discovery(job):
        return (job.command, job.graphql_url, None, job.account_id)
    return None


def is_account_discovery(job: NewJob) -> bool:
    """True if the job discovers everything that its account sees."""
    return job.full_path is None and job.command == Command.GROUP_PROJECT_DISCOVERY


def key_of(job: NewJob) -> JobKey | None:
    """Where to look for a job's twins; None for a job without a path."""
    if job.full_path is None:
        return None
    return JobKey(job.command, job.graphql_url, job.full_path, job.branch)


class Identities:
    """The lookups of twins, and the column `job_queue.identity`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def twins(
        self,
        keys: Collection[JobKey],
        excluding: Collection[JobId] = (),
        account_id: str | None = None,
    ) -> dict[JobKey, Twin]:
        """
        The job that exists already for each of *keys*, without a lock, *excluding* these ids.

        With *account_id*, jobs of that account alone.

        The oldest, on the same GitLab host if there is one. A key without a branch has no twin on another host;
        one with a branch has, since the shared unique index has no host.
        """
        wanted = list(keys)
        if not wanted:
            return {}
        values = {
            "paths": [key.full_path for key in wanted],
            "branches": [key.branch for key in wanted],
            "commands": [key.command for key in wanted],
            "urls": [key.graphql_url for key in wanted],
            "excluding": list(excluding),
            "account_id": account_id,
        }
        return {
            wanted[place - 1]: Twin(id_, JobStatus(status), is_same_host)
            for place, id_, status, is_same_host in self._session.execute(_TWINS, values)
        }

    def twins_of_jobs(self, jobs: Collection[NewJob], excluding: Collection[JobId] = ()) -> dict[JobId, Twin]:
        """The same, by the ids of new jobs; those without a path have no twins."""
        keys = {job.id: key for job in jobs if (key := key_of(job)) is not None}
        twins = self.twins(set(keys.values()), excluding)
        return {id_: twins[key] for id_, key in keys.items() if key in twins}

    def account_discoveries(self, jobs: Iterable[NewJob]) -> dict[JobId, JobId]:
        """The existing discovery of everything that its account sees, by the id of a new job that is one too."""
        rows = [job.row() for job in jobs if is_account_discovery(job)]
        if not rows:
            return {}
        found: Any = self._session.execute(_WITH_SAME_IDENTITY, {"rows": json.dumps(rows)})
        return {row.id: row.twin for row in found}

    def release_moved(self, job_ids: Collection[JobId]) -> None:
        """Release the identities of these jobs that belong to entries whose jobs the web app has moved since."""
        self._session.execute(_RELEASE_MOVED, {"ids": list(job_ids)})

    def follow(self, job_ids: Iterable[JobId]) -> None:
        """
        Set the identities of jobs anew that were moved to other paths, and had one before.

        Raises Contended if another transaction has just made a job there.
        """
        identified = sorted(self._session.scalars(_RELEASE, {"ids": sorted(job_ids)}))
        try:
            self._session.execute(_SET, {"ids": identified})
        except IntegrityError as error:  # the identity was free in the statement's snapshot
            raise Contended("a job of this identity was added by another transaction") from error
