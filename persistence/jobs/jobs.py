"""
The table `job`, which belongs to the web app: where it has changed a job, its change wins.

The web app's statuses, commands and providers may be enums: they are compared with literals, and written as literals
or by way of jsonb_populate_recordset, which casts text to the type of each column.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pydantic_core import to_json
from sqlalchemy import ColumnElement, TextClause, Update, func, update
from sqlalchemy.orm import Session

from persistence.schema.gitlabs import host_of
from persistence.schema.ids import AccountId, JobId
from persistence.schema.paths import key_in
from persistence.schema.sql import among, fragment, literal, one_of, sql
from persistence.schema.states import JOB_CRAWLABLE, JOB_ENDED, JOB_RENEWABLE, JobStatus
from persistence.schema.web_app import Job

_INSERT = sql("""
    INSERT INTO job (id, command, full_path, branch, "accountId", "userId", provider, "gitlabGraphQLUrl",
                     spawned_from, status, created_at, "updatedAt")
    SELECT r.id, r.command, r.full_path, r.branch, r."accountId", r."userId", r.provider, r."gitlabGraphQLUrl",
           r.spawned_from, $job_queued, now(), now()
      FROM jsonb_populate_recordset(NULL::job, CAST(:rows AS jsonb)) r
     ORDER BY r.full_path COLLATE "C", r.branch COLLATE "C", r.id COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING id
""")

_READ = fragment("""
    SELECT job.id, job.status::text AS status, job.command::text AS command, job."accountId" AS account_id,
           job."userId" AS user_id, job.provider::text AS provider, job."gitlabGraphQLUrl" AS graphql_url,
           job.finished_at, job.progress::text AS progress,
           job.full_path
      FROM job WHERE id = ANY (CAST(:ids AS text[]))
""")

_FIND = sql("$read", read=_READ)

_LOCK_KEY_SHARE = sql('$read ORDER BY id COLLATE "C" FOR KEY SHARE', read=_READ)

_LOCK = sql('$read ORDER BY id COLLATE "C" FOR NO KEY UPDATE', read=_READ)

_LOCK_SKIPPING = sql('$read ORDER BY id COLLATE "C" FOR NO KEY UPDATE SKIP LOCKED', read=_READ)


def _transition(starts: ColumnElement[bool], end: JobStatus, **values: Any) -> Update:
    """Give jobs whose status is one of *starts* another one; return their ids."""
    return (
        update(Job)
        .where(among(Job.id), starts)
        .values(status=literal(end), updated_at=func.now(), **values)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )


_IS_QUEUED = one_of(Job.status, [JobStatus.QUEUED])
_IS_RUNNING = one_of(Job.status, [JobStatus.RUNNING])
_IS_CRAWLABLE = one_of(Job.status, JOB_CRAWLABLE)
_IS_PAUSED = one_of(Job.status, [JobStatus.PAUSED])
_HAS_ENDED = one_of(Job.status, JOB_ENDED)
_AWAITS_RENEWAL = one_of(Job.status, [JobStatus.WAITING_CREDENTIAL_RENEWAL])
_IS_RENEWABLE = one_of(Job.status, JOB_RENEWABLE)

_START = _transition(_IS_QUEUED, JobStatus.RUNNING, started_at=func.coalesce(Job.started_at, func.now()))
_RELEASE = _transition(_IS_RUNNING, JobStatus.QUEUED)
_FAIL = _transition(_IS_CRAWLABLE, JobStatus.FAILED, finished_at=func.now())
_CANCEL = _transition(~_HAS_ENDED, JobStatus.CANCELLED, finished_at=func.now())
_PAUSE = _transition(_IS_CRAWLABLE, JobStatus.PAUSED)
_RESUME = _transition(_IS_PAUSED, JobStatus.QUEUED)
_AWAIT_RENEWAL = _transition(_IS_CRAWLABLE, JobStatus.WAITING_CREDENTIAL_RENEWAL)
_EXPIRE = _transition(_AWAITS_RENEWAL, JobStatus.CREDENTIAL_EXPIRED)
_RENEW = _transition(_IS_RENEWABLE, JobStatus.QUEUED)

_REQUEUE = sql("""
    UPDATE job SET status = $job_queued, finished_at = NULL, "updatedAt" = now(),
                   resume_state = CASE WHEN :restart THEN NULL ELSE resume_state END,
                   -- from the start: to come as far as before is progress again
                   progress = CASE WHEN :restart AND jsonb_typeof(progress) = 'object'
                                   THEN progress - 'best' ELSE progress END
     WHERE id = ANY (CAST(:ids AS text[])) AND status NOT IN $job_crawlable RETURNING id
""")

_ADVANCE = sql("""
    -- One row version per job, whatever was reported of it: each one is an entry in all of the shared indexes.
    UPDATE job
       SET progress = COALESCE(r.progress, job.progress), "updatedAt" = now(),
           status = CASE WHEN job.status NOT IN $job_crawlable THEN job.status
                         WHEN r.ends THEN $job_finished WHEN r.runs THEN $job_running ELSE job.status END,
           started_at = CASE WHEN r.runs AND job.status = $job_queued THEN COALESCE(job.started_at, now())
                             ELSE job.started_at END,
           finished_at = CASE WHEN r.ends AND job.status IN $job_crawlable THEN now()
                              ELSE job.finished_at END,
           resume_state = CASE WHEN r.ends AND job.status IN $job_crawlable THEN NULL
                               ELSE COALESCE(r.resume_state, job.resume_state) END
      FROM jsonb_to_recordset(CAST(:rows AS jsonb))
           AS r(id text, progress jsonb, resume_state jsonb, runs boolean, ends boolean)
     WHERE job.id = r.id
""")

_MOVE = sql(
    """
    UPDATE job SET full_path = moved.path, "updatedAt" = now()
      FROM unnest(CAST(:formers AS text[]), CAST(:paths AS text[])) AS moved(former, path)
     WHERE job.id = ANY (CAST(:ids AS text[])) AND $key = $former AND job.full_path <> moved.path
       -- the shared unique index would refuse it
       AND NOT EXISTS (SELECT FROM job other
                        WHERE other.full_path = moved.path AND other.branch = job.branch
                          AND other.command = job.command)
    RETURNING job.id
    """,
    key=key_in("job.full_path"),
    former=key_in("moved.former"),
)

_DELETE = sql("DELETE FROM job WHERE id = ANY (CAST(:ids AS text[]))")


@dataclass(frozen=True)
class NewJob:
    """A job to be inserted; none of its fields is a secret."""

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
        """The values by the names of the columns."""
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
    finished_at: datetime | None
    progress: str | None
    """JSON. The web app may write anything into it."""
    full_path: str | None = None

    @property
    def host(self) -> str:
        """The key of its GitLab, for caps, host queues and areas."""
        return host_of(self.graphql_url)


class Jobs:
    """The table `job`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def insert(self, jobs: Iterable[NewJob]) -> set[JobId]:
        """Insert jobs; return the new ones. The others exist already, by id or by the shared unique index."""
        rows = json.dumps([job.row() for job in jobs])
        return set(self._session.scalars(_INSERT, {"rows": rows}).all())

    def find(self, ids: Iterable[JobId]) -> dict[JobId, KnownJob]:
        """Read those of the jobs that exist, without a lock."""
        return self._read(_FIND, ids)

    def lock_key_share(self, ids: Iterable[JobId]) -> dict[JobId, KnownJob]:
        """Lock those of the jobs that exist FOR KEY SHARE: they cannot be deleted, and may be changed."""
        return self._read(_LOCK_KEY_SHARE, ids)

    def lock(self, ids: Iterable[JobId]) -> dict[JobId, KnownJob]:
        """Lock those of the jobs that exist, in id order."""
        return self._read(_LOCK, ids)

    def lock_skipping(self, ids: Iterable[JobId]) -> dict[JobId, KnownJob]:
        """Lock those of the jobs that exist, except the ones that another transaction has locked."""
        return self._read(_LOCK_SKIPPING, ids)

    def start(self, ids: Iterable[JobId]) -> set[JobId]:
        """Set queued jobs to running; return those that were queued."""
        return self._change(_START, ids)

    def release(self, ids: Iterable[JobId]) -> set[JobId]:
        """Queue running jobs again, keeping started_at and resume_state; return those that were running."""
        return self._change(_RELEASE, ids)

    def fail(self, ids: Iterable[JobId]) -> set[JobId]:
        """Set queued and running jobs to failed, for good; return those that were either."""
        return self._change(_FAIL, ids)

    def cancel(self, ids: Iterable[JobId]) -> set[JobId]:
        """Cancel jobs that have not ended; return them."""
        return self._change(_CANCEL, ids)

    def pause(self, ids: Iterable[JobId]) -> set[JobId]:
        """Pause queued and running jobs; return those that were either."""
        return self._change(_PAUSE, ids)

    def resume(self, ids: Iterable[JobId]) -> set[JobId]:
        """Queue paused jobs again, even if the web app paused them; return those that were paused."""
        return self._change(_RESUME, ids)

    def await_renewal(self, ids: Iterable[JobId]) -> set[JobId]:
        """Let queued and running jobs wait for a new token of their account; return those that were either."""
        return self._change(_AWAIT_RENEWAL, ids)

    def expire(self, ids: Iterable[JobId]) -> set[JobId]:
        """Mark jobs that wait for a new token as in need of a new authorization; return those that waited."""
        return self._change(_EXPIRE, ids)

    def renew(self, ids: Iterable[JobId]) -> set[JobId]:
        """Queue jobs again that wait for a new token, or whose token was renewed; return them."""
        return self._change(_RENEW, ids)

    def requeue(self, ids: Iterable[JobId], *, restart: bool) -> set[JobId]:
        """Queue jobs again that are neither queued nor running, from the start if *restart*; return them."""
        return set(self._session.scalars(_REQUEUE, {"ids": sorted(ids), "restart": restart}))

    def advance(self, rows: Collection[dict[str, Any]]) -> None:
        """
        Write progress and resume_state of locked jobs; None leaves what is there.

        Rows: id, the two (as JSON, or as pydantic's models of it), whether the job `runs`, and whether it
        `ends`: finished, with nothing to resume. One that the web app has ended or paused stays so.
        """
        encoded = to_json(list(rows), by_alias=True, exclude_none=True)
        self._session.execute(_ADVANCE, {"rows": encoded.decode()})

    def move(self, ids: Collection[JobId], paths: Mapping[str, str]) -> set[JobId]:
        """Give locked jobs of *ids* new paths, by their former ones; return those that could be moved."""
        if not ids or not paths:
            return set()
        values = {"ids": sorted(ids), "formers": list(paths), "paths": list(paths.values())}
        return set(self._session.scalars(_MOVE, values))

    def delete(self, ids: Collection[JobId]) -> None:
        """Delete locked jobs, with their entries, attempts and links to areas."""
        self._session.execute(_DELETE, {"ids": list(ids)})

    def _change(self, statement: Update, ids: Iterable[JobId]) -> set[JobId]:
        wanted = sorted(set(ids))
        return set(self._session.scalars(statement, {"ids": wanted})) if wanted else set()

    def _read(self, statement: TextClause, ids: Iterable[JobId]) -> dict[JobId, KnownJob]:
        wanted = sorted(set(ids))
        rows = self._session.execute(statement, {"ids": wanted}).all() if wanted else ()
        return {job.id: job for job in map(_known_job, rows)}


def _known_job(row: Iterable[Any]) -> KnownJob:
    id_, status, *rest = row
    return KnownJob(*(id_, JobStatus(status), *rest))
