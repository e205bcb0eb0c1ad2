"""
Jobs: the web app's table, in which its word wins.

Its statuses and commands may be enums there: they are compared with literals and written as
literals, or by way of jsonb_populate_recordset, which takes text to whatever the column is.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pydantic_core import to_json
from sqlalchemy import text
from sqlalchemy.orm import Session

from persistence.schema.ids import AccountId, JobId
from persistence.schema.states import JobStatus

_INSERT = text("""
    INSERT INTO job (id, command, full_path, branch, "accountId", "userId", provider, "gitlabGraphQLUrl",
                     spawned_from, status, created_at, "updatedAt")
    SELECT r.id, r.command, r.full_path, r.branch, r."accountId", r."userId", r.provider, r."gitlabGraphQLUrl",
           r.spawned_from, 'queued', now(), now()
      FROM jsonb_populate_recordset(NULL::job, CAST(:rows AS jsonb)) r
     ORDER BY r.full_path COLLATE "C", r.branch COLLATE "C", r.id COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING id
""")

HOST = """COALESCE(substring(job."gitlabGraphQLUrl" FROM '://([^/]+)'), '')"""
"""The GitLab host of a job, for caps; '' where it has none."""

_COLUMNS = f"""
    job.id, job.status::text AS status, job.command::text AS command, job."accountId" AS account_id,
    job."userId" AS user_id, job.provider::text AS provider, job."gitlabGraphQLUrl" AS graphql_url, {HOST} AS host,
    job.finished_at, job.progress::text AS progress
"""

_FIND = text(f"SELECT {_COLUMNS} FROM job WHERE id = ANY (CAST(:ids AS text[]))")  # noqa: S608 - no input is in it

_LOCK_KEY_SHARE = text(f"""
    SELECT {_COLUMNS} FROM job WHERE id = ANY (CAST(:ids AS text[])) ORDER BY id COLLATE "C" FOR KEY SHARE
""")  # noqa: S608

_LOCK = text(f"""
    SELECT {_COLUMNS} FROM job WHERE id = ANY (CAST(:ids AS text[])) ORDER BY id COLLATE "C" FOR NO KEY UPDATE
""")  # noqa: S608

_LOCK_SKIPPING = text(f"""
    SELECT {_COLUMNS} FROM job
     WHERE id = ANY (CAST(:ids AS text[])) ORDER BY id COLLATE "C" FOR NO KEY UPDATE SKIP LOCKED
""")  # noqa: S608

_WITH_IDENTITY = text("""
    SELECT DISTINCT ON (wanted.place) wanted.place, job.id,
           job."gitlabGraphQLUrl" IS NOT DISTINCT FROM wanted.url AS same_host
      FROM unnest(CAST(:paths AS text[]), CAST(:branches AS text[]), CAST(:commands AS text[]),
                  CAST(:urls AS text[])) WITH ORDINALITY AS wanted(path, branch, command, url, place)
      JOIN LATERAL (
          SELECT job.id, job.created_at, job."gitlabGraphQLUrl" FROM job
           WHERE job.id <> ALL (CAST(:excluding AS text[]))
             AND job.full_path = wanted.path AND job.command::text = wanted.command
             AND COALESCE(job.branch, '') = COALESCE(wanted.branch, '')
          OFFSET 0 -- one look an order by its path: joined as a whole, the table was read for each batch
      ) job ON wanted.branch IS NOT NULL OR job."gitlabGraphQLUrl" IS NOT DISTINCT FROM wanted.url
     ORDER BY wanted.place, same_host DESC, job.created_at, job.id
""")

_START = text("""
    UPDATE job SET status = 'running', started_at = COALESCE(started_at, now()), "updatedAt" = now()
     WHERE id = ANY (CAST(:ids AS text[])) AND status = 'queued' RETURNING id
""")

_FAIL = text("""
    UPDATE job SET status = 'failed', finished_at = now(), "updatedAt" = now()
     WHERE id = ANY (CAST(:ids AS text[])) AND status IN ('queued', 'running') RETURNING id
""")

_CANCEL = text("""
    UPDATE job SET status = 'cancelled', finished_at = now(), "updatedAt" = now()
     WHERE id = ANY (CAST(:ids AS text[])) AND status NOT IN ('finished', 'failed', 'cancelled') RETURNING id
""")

_REQUEUE = text("""
    UPDATE job SET status = 'queued', finished_at = NULL, "updatedAt" = now(),
                   resume_state = CASE WHEN :restart THEN NULL ELSE resume_state END,
                   -- from the start: to come as far as before is progress again
                   progress = CASE WHEN :restart AND jsonb_typeof(progress) = 'object'
                                   THEN progress - 'best' ELSE progress END
     WHERE id = ANY (CAST(:ids AS text[])) RETURNING id
""")

_RELEASE = text("""
    UPDATE job SET status = 'queued', "updatedAt" = now()
     WHERE id = ANY (CAST(:ids AS text[])) AND status = 'running' RETURNING id
""")

_ADVANCE = text("""
    -- One row version a job, whatever was said of it: each one is an entry in all of the shared indexes.
    UPDATE job
       SET progress = COALESCE(r.progress, job.progress), "updatedAt" = now(),
           status = CASE WHEN job.status NOT IN ('queued', 'running') THEN job.status
                         WHEN r.ends THEN 'finished' WHEN r.runs THEN 'running' ELSE job.status END,
           started_at = CASE WHEN r.runs AND job.status = 'queued' THEN COALESCE(job.started_at, now())
                             ELSE job.started_at END,
           finished_at = CASE WHEN r.ends AND job.status IN ('queued', 'running') THEN now()
                              ELSE job.finished_at END,
           resume_state = CASE WHEN r.ends AND job.status IN ('queued', 'running') THEN NULL
                               ELSE COALESCE(r.resume_state, job.resume_state) END
      FROM jsonb_to_recordset(CAST(:rows AS jsonb))
           AS r(id text, progress jsonb, resume_state jsonb, runs boolean, ends boolean)
     WHERE job.id = r.id
""")

_PAUSE = text("""
    UPDATE job SET status = 'paused', "updatedAt" = now()
     WHERE id = ANY (CAST(:ids AS text[])) AND status IN ('queued', 'running') RETURNING id
""")

_RESUME = text("""
    UPDATE job SET status = 'queued', "updatedAt" = now()
     WHERE id = ANY (CAST(:ids AS text[])) AND status = 'paused' RETURNING id
""")


@dataclass(frozen=True)
class NewJob:
    """A job to be made; no field of it is a secret."""

    id: JobId
    command: str
    full_path: str | None
    branch: str | None
    account_id: str
    user_id: str | None
    provider: str | None
    graphql_url: str | None
    spawned_from: JobId | None = None

    def row(self) -> dict[str, str | None]:
        """By the shared column names."""
        return {
            "id": self.id,
            "command": self.command,
            "full_path": self.full_path,
            "branch": self.branch,
            "accountId": self.account_id,
            "userId": self.user_id,
            "provider": self.provider,
            "gitlabGraphQLUrl": self.graphql_url,
            "spawned_from": self.spawned_from,
        }


class KnownJob(NamedTuple):
    """A job as it was read."""

    id: JobId
    status: JobStatus
    command: str
    account_id: AccountId
    user_id: str | None
    provider: str | None
    graphql_url: str | None
    host: str
    finished_at: datetime | None
    progress: str | None
    """JSON, by whomever."""


class Jobs:
    """The table `job`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def insert(self, jobs: Iterable[NewJob]) -> set[JobId]:
        """Insert jobs; returns those that were. The rest exist already, by id or by the shared unique index."""
        rows = json.dumps([job.row() for job in jobs])
        return set(self._session.scalars(_INSERT, {"rows": rows}).all())

    def find(self, ids: Iterable[JobId]) -> dict[JobId, KnownJob]:
        """Those of the jobs that exist, without a lock."""
        return self._read(_FIND, ids)

    def lock_key_share(self, ids: Iterable[JobId]) -> dict[JobId, KnownJob]:
        """Lock those of the jobs that exist FOR KEY SHARE: they cannot be deleted, and may be changed."""
        return self._read(_LOCK_KEY_SHARE, ids)

    def lock(self, ids: Iterable[JobId]) -> dict[JobId, KnownJob]:
        """Lock those of the jobs that exist, in id order."""
        return self._read(_LOCK, ids)

    def lock_skipping(self, ids: Iterable[JobId]) -> dict[JobId, KnownJob]:
        """As `lock`, but what a peer holds is left out."""
        return self._read(_LOCK_SKIPPING, ids)

    def with_identity(
        self, jobs: list[NewJob], excluding: Sequence[JobId] = ()
    ) -> dict[JobId, tuple[JobId, bool]]:
        """
        Which job has the same path, branch and command as each of these, *excluding* these ids.

        Jobs without a path have none.

        By the new job's id: the existing one's, and whether it is of the same GitLab host. A job
        without a branch is another one on another host; one with a branch collides there in the
        shared unique index.
        """
        wanted = [job for job in jobs if job.full_path is not None]
        rows = self._session.execute(
            _WITH_IDENTITY,
            {
                "paths": [job.full_path for job in wanted],
                "branches": [job.branch for job in wanted],
                "commands": [job.command for job in wanted],
                "urls": [job.graphql_url for job in wanted],
                "excluding": list(excluding),
            },
        )
        return {wanted[row.place - 1].id: (row.id, row.same_host) for row in rows}

    def start(self, ids: Iterable[JobId]) -> set[JobId]:
        """Queued jobs are running; returns those for which this is news."""
        return self._change(_START, ids)

    def fail(self, ids: Iterable[JobId]) -> set[JobId]:
        """Jobs have failed for good; one that the web app has ended stays so."""
        return self._change(_FAIL, ids)

    def cancel(self, ids: Iterable[JobId]) -> set[JobId]:
        """Jobs are cancelled; one that has ended stays so."""
        return self._change(_CANCEL, ids)

    def pause(self, ids: Iterable[JobId]) -> set[JobId]:
        """Queued and running jobs are paused; returns those that were either."""
        return self._change(_PAUSE, ids)

    def resume(self, ids: Iterable[JobId]) -> set[JobId]:
        """Paused jobs are queued again; returns those that were paused, by whomever."""
        return self._change(_RESUME, ids)

    def release(self, ids: Iterable[JobId]) -> set[JobId]:
        """Running jobs are queued again, and keep started_at and resume_state; returns those that were running."""
        return self._change(_RELEASE, ids)

    def requeue(self, ids: Iterable[JobId], *, restart: bool) -> None:
        """Jobs that have ended are queued again; *restart*: from the start."""
        self._session.execute(_REQUEUE, {"ids": sorted(ids), "restart": restart})

    def advance(self, rows: Collection[dict[str, Any]]) -> None:
        """
        Write progress and resume_state of locked jobs; None leaves what is there.

        Rows: id, the two (as JSON, or as pydantic's models of it), whether the job `runs`, and whether it
        `ends`: finished, with nothing to resume. One that the web app has ended or paused stays so.
        """
        encoded = to_json(list(rows), by_alias=True, exclude_none=True)
        self._session.execute(_ADVANCE, {"rows": encoded.decode()})

    def _change(self, statement: Any, ids: Iterable[JobId]) -> set[JobId]:
        wanted = sorted(set(ids))
        return set(self._session.scalars(statement, {"ids": wanted})) if wanted else set()

    def _read(self, statement: Any, ids: Iterable[JobId]) -> dict[JobId, KnownJob]:
        wanted = sorted(set(ids))
        rows = self._session.execute(statement, {"ids": wanted}).all() if wanted else ()
        return {job.id: job for job in map(_known_job, rows)}


def _known_job(row: Iterable[Any]) -> KnownJob:
    id_, status, *rest = row
    return KnownJob(*(id_, JobStatus(status), *rest))
