"""
The queue: one entry a job. Pending, processing, then completed or failed; back to pending by a retry.

An entry is claimable while it is pending, ready and not held. `ready` means due: backed-off
entries wait outside the claim index, whose head they would otherwise clog (1,873 buffers a pick
with 200,000 of them on PostgreSQL 15).
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from persistence.jobs.jobs import HOST, NewJob
from persistence.sanitize.json_values import clean_text
from persistence.schema.ids import AccountId, EntryId, JobId
from persistence.schema.sql import CLAIMABLE, SUSPECT_LOSSES
from persistence.schema.states import EntryStatus

_ERROR_BYTES = 200

IDENTITY = """
    CASE WHEN {0}.full_path IS NOT NULL THEN
        jsonb_build_array({0}.command, {0}."gitlabGraphQLUrl", {0}.full_path, COALESCE({0}.branch, ''))::text
         WHEN {0}.command::text = 'GROUP_PROJECT_DISCOVERY' THEN
        jsonb_build_array({0}.command, {0}."gitlabGraphQLUrl", NULL::text, {0}."accountId")::text
    END
"""
"""What makes a job the same as another; NULL where it is like no other: without a path, and no discovery."""

NOT_BEFORE = "GREATEST(q.scheduled_at, (SELECT claim_from FROM account_lane lane WHERE lane.account_id = {}))"
"""When an entry that comes back among those of an account was due: passes look no further back than this."""

_INSERT = text(f"""
    WITH new AS (
        SELECT r.*, job."accountId" AS account_id, {HOST} AS host, job.spawned_from,
               {IDENTITY.format("job")} AS identity
          FROM jsonb_to_recordset(CAST(:rows AS jsonb))
               AS r(id text, job_id text, priority int, max_attempts int, data jsonb, is_unique boolean)
          JOIN job ON job.id = r.job_id
    ), opened AS (
        INSERT INTO account_lane (account_id) SELECT account_id FROM new GROUP BY 1 ORDER BY account_id COLLATE "C"
        ON CONFLICT DO NOTHING
    )
    INSERT INTO job_queue (id, web_app_job_id, account_id, host, priority, max_attempts, data, spawned_from, identity)
    SELECT id, job_id, account_id, host, priority, max_attempts, data, spawned_from,
           CASE WHEN is_unique THEN identity END
      FROM new ORDER BY identity COLLATE "C", job_id COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING web_app_job_id
""")  # noqa: S608 - no input is in it

_RELEASE_MOVED_IDENTITIES = text(f"""
    -- The job that had this identity was given another path, or branch, by the web app.
    UPDATE job_queue q SET identity = NULL
      FROM job, job AS new
     WHERE new.id = ANY (CAST(:ids AS text[])) AND q.identity = {IDENTITY.format("new")}
       AND job.id = q.web_app_job_id AND q.identity IS DISTINCT FROM {IDENTITY.format("job")}
""")  # noqa: S608

_DISCOVERIES_OF_ACCOUNTS = text("""
    SELECT wanted.place, q.web_app_job_id
      FROM unnest(CAST(:urls AS text[]), CAST(:accounts AS text[])) WITH ORDINALITY AS wanted(url, account, place)
      JOIN job_queue q
        ON q.identity = jsonb_build_array('GROUP_PROJECT_DISCOVERY', wanted.url, NULL::text, wanted.account)::text
""")

_COUNT_CLAIMABLE = text(f"""
    SELECT count(*) FROM (
        SELECT FROM job_queue WHERE account_id = :account_id AND {CLAIMABLE} LIMIT :limit) claimable
""")  # noqa: S608

_COLUMNS = """
    q.id, q.web_app_job_id, q.account_id, q.host, q.status, q.priority, q.scheduled_at, q.attempts,
    q.max_attempts, q.losses, q.goodbyes, q.held
"""

_LOCK = text(f"""
    SELECT {_COLUMNS} FROM job_queue q
     WHERE q.web_app_job_id = ANY (CAST(:ids AS text[])) ORDER BY q.id FOR NO KEY UPDATE
""")  # noqa: S608 - no input is in it

_MARK_DUE_READY = text(f"""
    WITH due AS (
        SELECT id FROM job_queue
         WHERE status = 'pending' AND NOT ready AND scheduled_at <= clock_timestamp()
         ORDER BY scheduled_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE job_queue q SET ready = true, scheduled_at = {NOT_BEFORE.format("q.account_id")}
      FROM due WHERE q.id = due.id RETURNING q.id
""")  # noqa: S608

_HAS_DUE = text("""
    SELECT EXISTS (SELECT FROM job_queue WHERE status = 'pending' AND ready AND NOT held)
        OR EXISTS (SELECT FROM job_queue WHERE status = 'pending' AND NOT ready
                                           AND scheduled_at <= clock_timestamp())
""")

_CLAIM = text(f"""
    WITH turn AS MATERIALIZED ( -- read at once, instead of one look for each lane
        SELECT account_id, claim_from FROM account_lane WHERE account_id = ANY (CAST(:accounts AS text[]))
    )
    SELECT q.* FROM unnest(CAST(:accounts AS text[]), CAST(:hosts AS text[]), CAST(:quotas AS int[]))
                    AS lane(account_id, host, quota)
      JOIN turn ON turn.account_id = lane.account_id
     CROSS JOIN LATERAL (
         SELECT {_COLUMNS} FROM job_queue q
          WHERE q.account_id = lane.account_id AND q.host = lane.host
            AND q.status = 'pending' AND q.ready AND NOT q.held AND q.scheduled_at >= turn.claim_from
          ORDER BY q.priority DESC, q.scheduled_at, q.id
          LIMIT lane.quota
            FOR NO KEY UPDATE SKIP LOCKED
     ) q
""")  # noqa: S608

_SYNC_OWNER = text(f"""
    WITH opened AS (
        INSERT INTO account_lane (account_id)
        SELECT "accountId" FROM job WHERE id = ANY (CAST(:ids AS text[])) GROUP BY 1 ORDER BY "accountId" COLLATE "C"
        ON CONFLICT DO NOTHING
    )
    UPDATE job_queue q SET account_id = job."accountId", host = {HOST},
           scheduled_at = {NOT_BEFORE.format('job."accountId"')}
      FROM job WHERE job.id = q.web_app_job_id AND q.web_app_job_id = ANY (CAST(:ids AS text[]))
""")  # noqa: S608

_MARK_PROCESSING = text("""
    UPDATE job_queue
       SET status = 'processing', last_attempt_at = clock_timestamp(), held = false, settled_at = NULL
     WHERE web_app_job_id = ANY (CAST(:ids AS text[]))
""")

_MARK_COMPLETED = text("""
    UPDATE job_queue SET status = 'completed', settled_at = clock_timestamp(), error = NULL, held = false
     WHERE web_app_job_id = ANY (CAST(:ids AS text[]))
""")

_UPDATE = text("""
    UPDATE job_queue q
       SET status = r.status, error = r.error, attempts = r.attempts, losses = r.losses, goodbyes = r.goodbyes,
           ready = r.delay <= 0, scheduled_at = clock_timestamp() + make_interval(secs => r.delay),
           settled_at = CASE WHEN r.status = 'failed' THEN clock_timestamp() END
      FROM jsonb_to_recordset(CAST(:rows AS jsonb))
           AS r(id text, status text, error text, attempts int, losses int, goodbyes int, delay float)
     WHERE q.id = r.id
""")

_CLEAR_LOSSES = text("""
    UPDATE job_queue SET losses = 0 WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND losses > 0
""")

_FAIL = text("""
    UPDATE job_queue SET status = 'failed', error = :error, settled_at = clock_timestamp(), held = false
     WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND status <> 'completed'
""")

_PARK = text("""
    -- One that had failed was queued anew by the web app, and nobody has seen it yet: nothing counts against it.
    UPDATE job_queue
       SET status = 'pending', held = true, settled_at = NULL, ready = ready OR status = 'failed',
           scheduled_at = CASE WHEN status = 'failed' THEN clock_timestamp() ELSE scheduled_at END,
           attempts = CASE WHEN status = 'failed' THEN 0 ELSE attempts END,
           losses = CASE WHEN status = 'failed' THEN 0 ELSE losses END,
           error = CASE WHEN status = 'failed' THEN NULL ELSE error END,
           goodbyes = CASE WHEN status = 'failed' THEN 0 ELSE goodbyes END
     WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND status <> 'completed'
""")

_UNPARK = text(f"""
    UPDATE job_queue q
       SET status = 'pending', held = false, settled_at = NULL, scheduled_at = {NOT_BEFORE.format("q.account_id")}
     WHERE web_app_job_id = ANY (CAST(:ids AS text[]))
""")  # noqa: S608

_RESET = text("""
    UPDATE job_queue
       SET status = 'pending', held = false, ready = true, scheduled_at = clock_timestamp(), settled_at = NULL,
           error = NULL, attempts = 0, losses = 0, goodbyes = 0
     WHERE web_app_job_id = ANY (CAST(:ids AS text[]))
""")

_PRIORITIZE = text("""
    UPDATE job_queue SET priority = :priority
     WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND status IN ('pending', 'processing')
       AND priority <> :priority
 RETURNING web_app_job_id
""")

OUT_OF_SYNC = """
    FROM job LEFT JOIN job_queue q ON q.web_app_job_id = job.id
   WHERE job.created_at > (SELECT COALESCE(adopted_from, '-infinity') FROM adoption)
     AND job.command <> 'authorizationScope'
     AND CASE WHEN job.status IN ('queued', 'running')
              THEN q.id IS NULL OR q.status IN ('completed', 'failed') OR q.held
                   OR (q.status = 'processing') <> EXISTS (
                          SELECT FROM job_assignment_mapping a
                           WHERE a.web_app_job_id = job.id AND a.completed_at IS NULL)
                   OR (q.status = 'pending' AND (job.status = 'running' OR q.account_id <> job."accountId"))
              ELSE (q.status = 'pending' AND NOT q.held) OR q.status = 'processing'
                   OR (q.held AND job.status IN ('finished', 'failed', 'cancelled'))
                   OR job.status = 'credential_renewed'
                   OR (q.held AND q.account_id <> job."accountId"
                       AND job.status IN ('waiting_credential_renewal', 'credential_expired'))
                   OR EXISTS (SELECT FROM job_assignment_mapping a
                               WHERE a.web_app_job_id = job.id AND a.completed_at IS NULL) END
"""
"""The web app's word against ours. Its jobs from before us are left alone until they are adopted."""

_OUT_OF_SYNC = text(f"""SELECT job.id {OUT_OF_SYNC} ORDER BY job.id COLLATE "C" LIMIT :limit""")


@dataclass(frozen=True)
class NewEntry:
    """A queue entry to be made; account, host and lineage are its job's."""

    id: EntryId
    job_id: JobId
    priority: int
    max_attempts: int
    data: dict[str, Any] | None = None
    is_unique: bool = False
    """No other entry may be queued for a job of the same path, branch, command and host."""


class Entry(NamedTuple):
    """A queue entry as it was read, locked."""

    id: EntryId
    job_id: JobId
    account_id: AccountId
    host: str
    status: EntryStatus
    priority: int
    scheduled_at: datetime
    attempts: int
    max_attempts: int
    losses: int
    goodbyes: int
    held: bool

    @property
    def is_suspect(self) -> bool:
        """Lost so often in a row that it is seated alone, so that its neighbours are not blamed."""
        return self.losses >= SUSPECT_LOSSES


@dataclass(frozen=True)
class EntryUpdate:
    """What becomes of an entry whose attempt did not succeed."""

    entry: Entry
    attempts: int
    losses: int
    goodbyes: int
    retry_in: timedelta | None
    """None: it has failed for good."""
    error: str

    def row(self) -> dict[str, Any]:
        """By column, but for the error; the delay in seconds."""
        status = EntryStatus.FAILED if self.retry_in is None else EntryStatus.PENDING
        return {
            "id": self.entry.id,
            "status": status.value,
            "attempts": self.attempts,
            "losses": self.losses,
            "goodbyes": self.goodbyes,
            "delay": self.retry_in.total_seconds() if self.retry_in else 0,
        }


class Entries:
    """The table `job_queue`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def insert(self, entries: Iterable[NewEntry]) -> set[JobId]:
        """Queue jobs, due at once; returns those that were. The rest have an entry, or a twin, already."""
        rows = json.dumps([vars(entry) for entry in entries])
        return set(self._session.scalars(_INSERT, {"rows": rows}).all())

    def discoveries_of_accounts(self, jobs: list[NewJob]) -> dict[JobId, JobId]:
        """Which jobs discover all that an account sees on a GitLab, by the id of a new job that would as well."""
        if not jobs:
            return {}
        values = {"urls": [job.graphql_url for job in jobs], "accounts": [job.account_id for job in jobs]}
        rows = self._session.execute(_DISCOVERIES_OF_ACCOUNTS, values)
        return {jobs[row.place - 1].id: row.web_app_job_id for row in rows}

    def count_claimable(self, account_id: AccountId, limit: int) -> int:
        """How many entries of the account a pass may seat, counted no further than *limit*."""
        values = {"account_id": account_id, "limit": limit}
        return int(self._session.scalars(_COUNT_CLAIMABLE, values).one())

    def release_moved_identities(self, job_ids: Iterable[JobId]) -> None:
        """Let go of the identities of these jobs where an entry holds them whose job has moved away."""
        self._session.execute(_RELEASE_MOVED_IDENTITIES, {"ids": list(job_ids)})

    def lock(self, job_ids: Iterable[JobId]) -> dict[JobId, Entry]:
        """Lock the entries of these jobs, in the order of the entries' ids."""
        rows = self._session.execute(_LOCK, {"ids": sorted(set(job_ids))}).all()
        return {entry.job_id: entry for entry in map(_entry, rows)}

    def mark_due_ready(self, limit: int) -> int:
        """Let at most *limit* backed-off entries whose time has come into the claim index; how many."""
        return len(self._session.scalars(_MARK_DUE_READY, {"limit": limit}).all())

    def has_due(self) -> bool:
        """Whether there is anything that a pass could seat."""
        return bool(self._session.scalars(_HAS_DUE).one())

    def claim(self, quotas: dict[tuple[str, str], int]) -> list[Entry]:
        """
        Lock the first claimable entries of each lane (account, host), at most its quota of them.

        By priority, then age. What a peer holds is left out.
        """
        values = {
            "accounts": [account for account, _ in quotas],
            "hosts": [host for _, host in quotas],
            "quotas": list(quotas.values()),
        }
        return [_entry(row) for row in self._session.execute(_CLAIM, values).all()]

    def sync_owner(self, job_ids: Iterable[JobId]) -> None:
        """Entries that the caller has locked are of the account and host of their job, which has changed."""
        self._update(_SYNC_OWNER, job_ids)

    def mark_processing(self, job_ids: Iterable[JobId]) -> None:
        """Entries that the caller has locked are being worked off."""
        self._update(_MARK_PROCESSING, job_ids)

    def mark_completed(self, job_ids: Iterable[JobId]) -> None:
        """Entries that the caller has locked are done."""
        self._update(_MARK_COMPLETED, job_ids)

    def update(self, updates: Collection[EntryUpdate]) -> None:
        """Entries that the caller has locked go back to pending, or have failed."""
        errors = {text: clean_text(text, _ERROR_BYTES) for text in {update.error for update in updates}}
        rows = [update.row() | {"error": errors[update.error]} for update in updates]
        self._session.execute(_UPDATE, {"rows": json.dumps(rows)})

    def clear_losses(self, job_ids: Iterable[JobId]) -> None:
        """Progress was made: the losses in a row are none."""
        self._update(_CLEAR_LOSSES, job_ids)

    def fail(self, job_ids: Iterable[JobId], error: str) -> None:
        """Entries that the caller has locked will not run: failed, with this as the error."""
        self._update(_FAIL, job_ids, error=error)

    def park(self, job_ids: Iterable[JobId]) -> None:
        """Entries that the caller has locked stay pending and are seated by nobody."""
        self._update(_PARK, job_ids)

    def unpark(self, job_ids: Iterable[JobId]) -> None:
        """Entries that the caller has locked are pending and held by nobody; what was counted stays."""
        self._update(_UNPARK, job_ids)

    def reset(self, job_ids: Iterable[JobId]) -> None:
        """Entries that the caller has locked are pending and due, with nothing counted against them."""
        self._update(_RESET, job_ids)

    def prioritize(self, job_ids: Iterable[JobId], priority: int) -> set[JobId]:
        """Entries that the caller has locked get this priority; returns the jobs of those that had another."""
        return set(self._session.scalars(_PRIORITIZE, {"ids": list(job_ids), "priority": priority}))

    def out_of_sync(self, limit: int) -> list[JobId]:
        """At most *limit* jobs whose status says another thing than their entry or attempt, in id order."""
        return list(self._session.scalars(_OUT_OF_SYNC, {"limit": limit}))

    def _update(self, statement: TextClause, job_ids: Iterable[JobId], **values: Any) -> None:
        if ids := list(job_ids):
            self._session.execute(statement, {"ids": ids, **values})


def _entry(row: Iterable[Any]) -> Entry:
    id_, job_id, account_id, host, status, *counted = row
    return Entry(*(id_, job_id, account_id, host, EntryStatus(status), *counted))
