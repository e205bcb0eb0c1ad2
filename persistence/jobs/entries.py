"""
The table `job_queue`: one entry per job. Pending, processing, then completed or failed; pending again after a retry.

An entry is claimable while it is pending, ready and not parked (the column `held`). `ready` means due: entries that
are backed off stay out of the claim index, at whose head each claim would read past them (1,873 buffers a claim with
200,000 of them on PostgreSQL 15).

The methods that change entries rely on the caller's locks: tasks/jobs/locking.py.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import TextClause
from sqlalchemy.orm import Session

from persistence.jobs.account_queues import not_before, open_queues_of
from persistence.jobs.out_of_sync import OUT_OF_SYNC
from persistence.sanitize.json_values import clean_text
from persistence.sanitize.known_tokens import KnownTokens
from persistence.schema.ids import AccountId, EntryId, JobId
from persistence.schema.reasons import HoldReason
from persistence.schema.sql import SUSPECT_LOSSES, sql
from persistence.schema.states import EntryStatus

_ERROR_BYTES = 200

_INSERT = sql(
    """
    WITH new AS (
        SELECT r.*, job."accountId" AS account_id, job.spawned_from
          FROM jsonb_to_recordset(CAST(:rows AS jsonb))
               AS r(id text, job_id text, host text, priority int, max_attempts int, data jsonb, identity text)
          JOIN job ON job.id = r.job_id
    ), opened AS ($open_queues)
    INSERT INTO job_queue (id, web_app_job_id, account_id, host, priority, max_attempts, data, spawned_from, identity)
    SELECT id, job_id, account_id, host, priority, max_attempts, data, spawned_from, identity
      FROM new ORDER BY identity COLLATE "C", job_id COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING web_app_job_id
    """,
    open_queues=open_queues_of("SELECT account_id FROM new"),
)

_COUNT_CLAIMABLE = sql("""
    SELECT count(*) FROM (
        SELECT FROM job_queue WHERE account_id = :account_id AND $claimable LIMIT :limit) claimable
""")

_COLUMNS = """
    q.id, q.web_app_job_id, q.account_id, q.host, q.status, q.priority, q.scheduled_at, q.attempts,
    q.max_attempts, q.losses, q.goodbyes, q.held
"""

_LOCK = sql(
    """
    SELECT $columns FROM job_queue q
     WHERE q.web_app_job_id = ANY (CAST(:ids AS text[])) ORDER BY q.id FOR NO KEY UPDATE
    """,
    columns=_COLUMNS,
)

_MARK_DUE_READY = sql(
    """
    WITH due AS (
        SELECT id FROM job_queue
         WHERE status = $entry_pending AND NOT ready AND scheduled_at <= clock_timestamp()
         ORDER BY scheduled_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE job_queue q SET ready = true, scheduled_at = $not_before
      FROM due WHERE q.id = due.id RETURNING q.id
    """,
    not_before=not_before("q.account_id"),
)

_HAS_DUE = sql("""
    SELECT EXISTS (SELECT FROM job_queue WHERE $claimable)
        OR EXISTS (SELECT FROM job_queue WHERE status = $entry_pending AND NOT ready
                                           AND scheduled_at <= clock_timestamp())
""")

_CLAIM = sql(
    """
    WITH turn AS MATERIALIZED ( -- read at once, instead of one look for each host queue
        SELECT account_id, claim_from FROM account_lane WHERE account_id = ANY (CAST(:accounts AS text[]))
    )
    SELECT q.* FROM unnest(CAST(:accounts AS text[]), CAST(:hosts AS text[]), CAST(:quotas AS int[]))
                    AS lane(account_id, host, quota)
      JOIN turn ON turn.account_id = lane.account_id
     CROSS JOIN LATERAL (
         SELECT $columns FROM job_queue q
          WHERE q.account_id = lane.account_id AND q.host = lane.host
            AND q.status = $entry_pending AND q.ready AND NOT q.held AND q.scheduled_at >= turn.claim_from
          ORDER BY q.priority DESC, q.scheduled_at, q.id
          LIMIT lane.quota
            FOR NO KEY UPDATE SKIP LOCKED
     ) q
    """,
    columns=_COLUMNS,
)

_SYNC_OWNER = sql(
    """
    WITH opened AS ($open_queues)
    UPDATE job_queue q SET account_id = job."accountId", host = owner.host, scheduled_at = $not_before
      FROM unnest(CAST(:ids AS text[]), CAST(:hosts AS text[])) AS owner(job_id, host)
      JOIN job ON job.id = owner.job_id
     WHERE q.web_app_job_id = owner.job_id
    """,
    open_queues=open_queues_of('SELECT "accountId" FROM job WHERE id = ANY (CAST(:ids AS text[]))'),
    not_before=not_before('job."accountId"'),
)

_SET_HOSTS = sql("""
    UPDATE job_queue q SET host = named.host
      FROM unnest(CAST(:ids AS text[]), CAST(:hosts AS text[])) AS named(job_id, host)
     WHERE q.web_app_job_id = named.job_id AND q.host <> named.host
""")

_MARK_PROCESSING = sql("""
    UPDATE job_queue
       SET status = $entry_processing, last_attempt_at = clock_timestamp(), held = false, hold_reason = NULL,
           hold_announced = NULL, settled_at = NULL
     WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND status = $entry_pending
""")

_RESTORE_PROCESSING = sql("""
    UPDATE job_queue
       SET status = $entry_processing, last_attempt_at = clock_timestamp(), held = false, hold_reason = NULL,
           hold_announced = NULL, settled_at = NULL
     WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND status <> $entry_processing
""")

_MARK_COMPLETED = sql("""
    UPDATE job_queue SET status = $entry_completed, settled_at = clock_timestamp(), error = NULL, held = false,
                         hold_reason = NULL
     WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND status <> $entry_completed
""")

_UPDATE = sql("""
    UPDATE job_queue q
       SET status = r.status, error = r.error, attempts = r.attempts, losses = r.losses, goodbyes = r.goodbyes,
           ready = r.delay <= 0, scheduled_at = clock_timestamp() + make_interval(secs => r.delay),
           settled_at = CASE WHEN r.status = $entry_failed THEN clock_timestamp() END
      FROM jsonb_to_recordset(CAST(:rows AS jsonb))
           AS r(id text, status text, error text, attempts int, losses int, goodbyes int, delay float)
     WHERE q.id = r.id AND q.status IN $entry_open
""")

_CLEAR_LOSSES = sql("""
    UPDATE job_queue SET losses = 0 WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND losses > 0
""")

_FAIL = sql("""
    UPDATE job_queue SET status = $entry_failed, error = :error, settled_at = clock_timestamp(), held = false,
                         hold_reason = NULL
     WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND status <> $entry_completed
""")

_PARK = sql("""
    -- The web app has queued one anew that had failed, and we have not seen that yet: nothing counts against it.
    UPDATE job_queue
       SET status = $entry_pending, held = true, hold_reason = NULL, settled_at = NULL,
           ready = ready OR status = $entry_failed,
           scheduled_at = CASE WHEN status = $entry_failed THEN clock_timestamp() ELSE scheduled_at END,
           attempts = CASE WHEN status = $entry_failed THEN 0 ELSE attempts END,
           losses = CASE WHEN status = $entry_failed THEN 0 ELSE losses END,
           error = CASE WHEN status = $entry_failed THEN NULL ELSE error END,
           goodbyes = CASE WHEN status = $entry_failed THEN 0 ELSE goodbyes END
     WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND status <> $entry_completed
""")

_UNPARK = sql(
    """
    UPDATE job_queue q
       SET status = $entry_pending, held = false, hold_reason = NULL, scheduled_at = $not_before
     WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND status IN $entry_open
    """,
    not_before=not_before("q.account_id"),
)

_ADOPT = sql("""
    UPDATE job_queue SET held = false, hold_reason = NULL, ready = scheduled_at <= clock_timestamp()
     WHERE id = ANY (CAST(:ids AS text[])) AND status = $entry_pending AND held
""")

_RESET = sql("""
    UPDATE job_queue
       SET status = $entry_pending, held = false, hold_reason = NULL, hold_announced = NULL, ready = true,
           scheduled_at = clock_timestamp(), settled_at = NULL, error = NULL, attempts = 0, losses = 0, goodbyes = 0
     WHERE web_app_job_id = ANY (CAST(:ids AS text[]))
""")

_HOLD = sql("""
    UPDATE job_queue q SET held = true, hold_reason = r.reason, hold_url = r.url, hold_origin = r.origin,
                           hold_announced = r.reason
      FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(job_id text, reason text, url text, origin text)
      JOIN job_queue before ON before.web_app_job_id = r.job_id
     WHERE q.id = before.id AND q.status = $entry_pending
 RETURNING q.web_app_job_id, before.hold_announced IS DISTINCT FROM r.reason AS is_news
""")

_PRIORITIZE = sql("""
    UPDATE job_queue SET priority = :priority
     WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND status IN $entry_open
       AND priority <> :priority
 RETURNING web_app_job_id
""")

_KEEP = sql("""
    UPDATE job_queue SET kept_at = clock_timestamp()
     WHERE web_app_job_id = ANY (CAST(:ids AS text[])) AND settled_at IS NOT NULL
""")

_OUT_OF_SYNC = sql(
    'SELECT job.id $out_of_sync ORDER BY job.id COLLATE "C" LIMIT :limit', out_of_sync=OUT_OF_SYNC
)


@dataclass(frozen=True)
class NewEntry:
    """A queue entry to be inserted; its account and `spawned_from` are those of its job."""

    id: EntryId
    job_id: JobId
    host: str
    """The key of its job's GitLab."""
    priority: int
    max_attempts: int
    data: dict[str, Any] | None = None
    identity: str | None = None
    """Its job's, which no other entry may have; None if others may have the same job."""


@dataclass(frozen=True)
class HeldJob:
    """A job that is queued and held: why, and by which URL that was decided."""

    job_id: JobId
    reason: HoldReason
    url: str | None
    origin: str | None
    """Of the URL; '' if it cannot be parsed, None if the job has none."""


class Entry(NamedTuple):
    """A queue entry that is locked, as it was read."""

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
        """True if its job was lost so often in a row that it is assigned alone."""
        return self.losses >= SUSPECT_LOSSES


@dataclass(frozen=True)
class EntryUpdate:
    """An entry after an attempt that did not succeed."""

    entry: Entry
    attempts: int
    losses: int
    goodbyes: int
    retry_in: timedelta | None
    """None if it has failed for good."""
    error: str

    def row(self) -> dict[str, Any]:
        """The values by column, except the error, and the delay in seconds."""
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

    def __init__(self, session: Session, tokens: KnownTokens) -> None:
        self._session = session
        self._tokens = tokens

    def insert(self, entries: Iterable[NewEntry]) -> set[JobId]:
        """Insert entries, due at once; returns the jobs that got one: those with no entry, whose identity was free."""
        rows = json.dumps([vars(entry) for entry in entries])
        return set(self._session.scalars(_INSERT, {"rows": rows}).all())

    def count_claimable(self, account_id: AccountId, limit: int) -> int:
        """How many entries of the account are claimable; *limit* if there are more."""
        values = {"account_id": account_id, "limit": limit}
        return int(self._session.scalars(_COUNT_CLAIMABLE, values).one())

    def lock(self, job_ids: Iterable[JobId]) -> dict[JobId, Entry]:
        """Lock the entries of these jobs, in the order of the entries' ids."""
        rows = self._session.execute(_LOCK, {"ids": sorted(set(job_ids))}).all()
        return {entry.job_id: entry for entry in map(_entry, rows)}

    def mark_due_ready(self, limit: int) -> int:
        """Make at most *limit* backed-off entries claimable that are due; returns how many."""
        return len(self._session.scalars(_MARK_DUE_READY, {"limit": limit}).all())

    def has_due(self) -> bool:
        """True if an entry is claimable, or due to become so."""
        return bool(self._session.scalars(_HAS_DUE).one())

    def claim(self, quotas: dict[tuple[str, str], int]) -> list[Entry]:
        """
        Lock the first claimable entries of each host queue (account, host), by priority and age, up to its quota.

        Entries that another transaction has locked are left out.
        """
        values = {
            "accounts": [account for account, _ in quotas],
            "hosts": [host for _, host in quotas],
            "quotas": list(quotas.values()),
        }
        return [_entry(row) for row in self._session.execute(_CLAIM, values).all()]

    def sync_owner(self, hosts: Mapping[JobId, str]) -> None:
        """Set the account of entries to that of their jobs, and the host to this one: they have changed."""
        self._update(_SYNC_OWNER, hosts, hosts=list(hosts.values()))

    def set_hosts(self, hosts: Mapping[JobId, str]) -> None:
        """Set the host of entries: their GitLab has another name."""
        self._update(_SET_HOSTS, hosts, hosts=list(hosts.values()))

    def mark_processing(self, job_ids: Iterable[JobId]) -> None:
        """Mark pending entries as processing."""
        self._update(_MARK_PROCESSING, job_ids)

    def restore_processing(self, job_ids: Iterable[JobId]) -> None:
        """Mark entries in any other state as processing: they have a live attempt."""
        self._update(_RESTORE_PROCESSING, job_ids)

    def mark_completed(self, job_ids: Iterable[JobId]) -> None:
        """Mark entries as completed, even one that was not processing although its attempt was live."""
        self._update(_MARK_COMPLETED, job_ids)

    def update(self, updates: Collection[EntryUpdate]) -> None:
        """Make entries that are not settled pending again, or failed."""
        tokens = self._tokens.values() if updates else ()
        errors = {
            text: clean_text(text, _ERROR_BYTES, tokens) for text in {update.error for update in updates}
        }
        rows = [update.row() | {"error": errors[update.error]} for update in updates]
        self._session.execute(_UPDATE, {"rows": json.dumps(rows)})

    def clear_losses(self, job_ids: Iterable[JobId]) -> None:
        """Set the losses in a row to 0, after progress."""
        self._update(_CLEAR_LOSSES, job_ids)

    def fail(self, job_ids: Iterable[JobId], error: str) -> None:
        """Mark entries that are not completed as failed, with this error."""
        self._update(_FAIL, job_ids, error=error)

    def park(self, job_ids: Iterable[JobId]) -> None:
        """Park entries that are not completed: they are pending, and no round claims them."""
        self._update(_PARK, job_ids)

    def hold(self, held: Collection[HeldJob]) -> set[JobId]:
        """
        Park pending entries of queued jobs whose account's token must not go to their GitLab.

        Returns the jobs whose reason is news: no event has given it since they were assigned or queued anew.
        """
        rows = json.dumps([vars(one) for one in held])
        return {row.web_app_job_id for row in self._session.execute(_HOLD, {"rows": rows}) if row.is_news}

    def unpark(self, job_ids: Iterable[JobId]) -> None:
        """Unpark entries that are not settled: they are pending, and keep their counters."""
        self._update(_UNPARK, job_ids)

    def reset(self, job_ids: Iterable[JobId]) -> None:
        """Make entries in any state pending and due, with all counters at 0; their jobs have no live attempt."""
        self._update(_RESET, job_ids)

    def adopt(self, ids: Collection[EntryId]) -> None:
        """Let parked entries that were carried over from an older component be claimed when due."""
        self._session.execute(_ADOPT, {"ids": list(ids)})

    def keep(self, job_ids: Collection[JobId]) -> None:
        """Keep the clean-up from these old jobs for a while."""
        self._session.execute(_KEEP, {"ids": list(job_ids)})

    def prioritize(self, job_ids: Iterable[JobId], priority: int) -> set[JobId]:
        """Give entries that are not settled this priority; return the jobs of those that had another."""
        return set(self._session.scalars(_PRIORITIZE, {"ids": list(job_ids), "priority": priority}))

    def out_of_sync(self, limit: int) -> list[JobId]:
        """Return at most *limit* jobs whose status disagrees with their entry or attempt, in id order, unlocked."""
        return list(self._session.scalars(_OUT_OF_SYNC, {"limit": limit}))

    def _update(self, statement: TextClause, job_ids: Iterable[JobId], **values: Any) -> None:
        if ids := list(job_ids):
            self._session.execute(statement, {"ids": ids, **values})


def _entry(row: Iterable[Any]) -> Entry:
    id_, job_id, account_id, host, status, *counted = row
    return Entry(*(id_, job_id, account_id, host, EntryStatus(status), *counted))
