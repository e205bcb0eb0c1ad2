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
from persistence.schema.gitlabs import is_same, url_of
from persistence.schema.ids import JobId
from persistence.schema.paths import path_key, spellings_of
from persistence.schema.sql import sql
from persistence.schema.states import JobStatus

_write = json.JSONEncoder(ensure_ascii=False).encode

_COLUMNS = """
    job.command::text AS command, job."gitlabGraphQLUrl" AS url, job.full_path, job.branch,
    job."accountId" AS account_id
"""

_TWINS = sql(
    """
    -- The oldest of each spelling of the URL: which spellings are one GitLab, the database does not know.
    SELECT wanted.place, job.id, job.status, job.url, job.is_same_path
      FROM unnest(CAST(:paths AS text[]), CAST(:branches AS text[]), CAST(:commands AS text[]))
           WITH ORDINALITY AS wanted(path, branch, command, place)
     CROSS JOIN LATERAL (
          SELECT DISTINCT ON (job."gitlabGraphQLUrl", is_same_path)
                 job.id, job.status::text AS status, job.created_at, job."gitlabGraphQLUrl" AS url,
                 job.full_path = wanted.path AS is_same_path
            FROM job
           WHERE job.id <> ALL (CAST(:excluding AS text[]))
             AND (CAST(:account_id AS text) IS NULL OR job."accountId" = :account_id)
             AND job.full_path = ANY ($spellings) AND job.command::text = wanted.command
             AND COALESCE(job.branch, '') = COALESCE(wanted.branch, '')
           ORDER BY job."gitlabGraphQLUrl", is_same_path, job.created_at, job.id
          OFFSET 0 -- one probe by the path for each: joined as a whole, the table was read for each batch
      ) job
     ORDER BY wanted.place, job.created_at, job.id
    """,
    spellings=spellings_of("wanted.path"),
)

_HOLDERS = sql(
    """
    SELECT q.web_app_job_id AS id, q.identity, $columns
      FROM job_queue q JOIN job ON job.id = q.web_app_job_id
     WHERE q.identity = ANY (CAST(:identities AS text[]))
""",
    columns=_COLUMNS,
)

_RELEASE = sql("""
    UPDATE job_queue SET identity = NULL WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND identity IS NOT NULL
    RETURNING web_app_job_id
""")

_READ = sql(
    "SELECT job.id, $columns FROM job WHERE job.id = ANY (CAST(:ids AS text[])) ORDER BY job.id",
    columns=_COLUMNS,
)

_SET = sql("""
    -- Not one that another entry has: then this job is one too many, and remains like one that the web app inserted.
    UPDATE job_queue q SET identity = new.identity
      FROM unnest(CAST(:ids AS text[]), CAST(:identities AS text[])) AS new(job_id, identity)
     WHERE q.web_app_job_id = new.job_id AND NOT EXISTS (SELECT FROM job_queue o WHERE o.identity = new.identity)
""")


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


def identity(job: NewJob) -> str | None:
    """The identity as it is stored; None if no other job can be the same."""
    return _identity(job.command, job.graphql_url, job.full_path, job.branch, job.account_id)


def _identity(
    command: str, url: str | None, full_path: str | None, branch: str | None, account_id: str
) -> str | None:
    """Write an identity as jsonb does, in which workers of 0.4.1 write them."""
    if full_path is not None:
        parts = [command, url_of(url), path_key(full_path), branch or ""]
    elif command == Command.GROUP_PROJECT_DISCOVERY:
        parts = [command, url_of(url), None, account_id]
    else:
        return None
    return _write(parts)


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
            "excluding": list(excluding),
            "account_id": account_id,
        }
        found: dict[JobKey, Twin] = {}
        for place, id_, status, url, is_same_path in self._session.execute(_TWINS, values):
            key = wanted[place - 1]
            twin = Twin(id_, JobStatus(status), is_same(url, key.graphql_url))
            # Of other hosts only what the shared unique index compares.
            if twin.is_same_host or (key.branch is not None and is_same_path):
                found[key] = max(found.get(key, twin), twin, key=lambda one: one.is_same_host)
        return found

    def twins_of_jobs(self, jobs: Collection[NewJob], excluding: Collection[JobId] = ()) -> dict[JobId, Twin]:
        """The same, by the ids of new jobs; those without a path have no twins."""
        keys = {job.id: key for job in jobs if (key := key_of(job)) is not None}
        twins = self.twins(set(keys.values()), excluding)
        return {id_: twins[key] for id_, key in keys.items() if key in twins}

    def account_discoveries(self, jobs: Iterable[NewJob]) -> dict[JobId, JobId]:
        """The existing discovery of everything that its account sees, by the id of a new job that is one too."""
        wanted = {job.id: identity(job) for job in jobs if is_account_discovery(job)}
        holders = {row.identity: row.id for row in self._holders(wanted.values())}
        return {id_: holders[one] for id_, one in wanted.items() if one in holders}

    def release_moved(self, jobs: Collection[NewJob]) -> None:
        """Release the identities of these jobs that belong to entries whose jobs the web app has moved since."""
        holders = self._holders(identity(job) for job in jobs)
        moved = sorted(row.id for row in holders if identity_of(row) != row.identity)
        self._session.execute(_RELEASE, {"ids": moved})

    def renew(self, job_ids: Collection[JobId], duplicates: Collection[JobId]) -> None:
        """
        Set the identities of jobs anew, each of another one, after taking them from their *duplicates*.

        Raises Contended if another transaction has just made such a job.
        """
        if released := sorted({*job_ids, *duplicates}):
            self._session.execute(_RELEASE, {"ids": released})
        self.set_missing(job_ids)

    def follow(self, job_ids: Iterable[JobId]) -> None:
        """
        Set the identities of jobs anew that were moved to other paths, and had one before.

        Raises Contended if another transaction has just made a job there.
        """
        identified = sorted(self._session.scalars(_RELEASE, {"ids": sorted(job_ids)}))
        self.set_missing(identified)

    def set_missing(self, job_ids: Collection[JobId]) -> None:
        """
        Set the identities of these jobs, whose entries have none, except those that other entries have.

        Raises Contended if another transaction has just made such a job.
        """
        rows = self._session.execute(_READ, {"ids": list(job_ids)}).all() if job_ids else ()
        new: dict[str, JobId] = {}
        for row in rows:
            if (one := identity_of(row)) is not None:
                new.setdefault(one, row.id)
        try:
            if new:
                self._session.execute(_SET, {"ids": list(new.values()), "identities": list(new)})
        except IntegrityError as error:  # the identity was free in the statement's snapshot
            raise Contended("a job of this identity was added by another transaction") from error

    def _holders(self, identities: Iterable[str | None]) -> list[Any]:
        """The jobs whose entries have these identities, as they are now."""
        wanted = sorted({one for one in identities if one is not None})
        return list(self._session.execute(_HOLDERS, {"identities": wanted})) if wanted else []


def identity_of(row: Any) -> str | None:
    """The identity of a job as it was read: a row with its command, url, full_path, branch and account_id."""
    return _identity(row.command, row.url, row.full_path, row.branch, row.account_id)
