"""
Selections: which jobs a command means, page by page.

A page looks at one stretch of a table by its primary key and continues behind the page before, so that
no statement reads more than WINDOW rows, whatever the table holds: the web app's has no index by account
or parent, and no path below another is found by one. That costs one walk through the table a command.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from persistence.schema.ids import JobId

START = ""
"""Before every id."""

WINDOW = 5000
"""Rows that one page looks at."""

_PAGE = """
    WITH RECURSIVE scanned AS MATERIALIZED (
        SELECT {columns} FROM {table} WHERE id > :after AND {source} ORDER BY id LIMIT :window
    ), ancestors AS (
        -- Up from here, not down from the root: each step is one probe of the primary key. Joined without
        -- LIMIT, a page hashes the whole table.
        SELECT parent.* FROM (SELECT DISTINCT spawned_from FROM scanned) child
         CROSS JOIN LATERAL (SELECT id, spawned_from FROM job WHERE id = child.spawned_from LIMIT 1) parent
        UNION
        SELECT parent.* FROM ancestors child
         CROSS JOIN LATERAL (SELECT id, spawned_from FROM job WHERE id = child.spawned_from LIMIT 1) parent
    ), family AS (
        SELECT CAST(:value AS text) AS id
        UNION
        SELECT ancestors.id FROM ancestors JOIN family ON ancestors.spawned_from = family.id
    ), found AS MATERIALIZED (
        SELECT id FROM scanned WHERE {chosen} AND {state} ORDER BY id LIMIT :limit
    )
    SELECT ARRAY (SELECT id FROM found ORDER BY id) AS ids,
           CASE WHEN (SELECT count(*) FROM found) = :limit THEN (SELECT max(id) FROM found)
                WHEN (SELECT count(*) FROM scanned) = :window THEN (SELECT max(id) FROM scanned) END AS place
"""

_JOB = {
    "table": "job",
    "columns": 'id, status, command, full_path, "accountId" AS account_id, spawned_from, finished_at',
}

_DEFERRED = {
    "table": "deferred_job",
    "columns": "id, full_path, account_id, spawned_from, priority",
}

_SOURCES = {
    "job_ids": "id = ANY (CAST(:value AS text[]))",
}
"""Where an index leads to the few that can be meant; else it is the whole table, stretch by stretch."""

_CHOSEN = {
    "job_ids": "true",
    # A probe a job. Where the plan may go by the fingerprint, each page, or each probe, reads the whole group.
    "error_group": "(SELECT bool_or(e.fingerprint = :value) FROM job_error_log e WHERE e.job_id = scanned.id)",
    "account_id": "account_id = :value",
    "area": "(full_path = :value OR starts_with(full_path, :value || '/'))",
    "subtree_of": "(id = :value OR spawned_from IN (SELECT id FROM family))",
}

_FAILED_AT = """
    COALESCE((SELECT q.settled_at FROM job_queue q WHERE q.web_app_job_id = scanned.id), finished_at)
"""

UNFINISHED = "status NOT IN ('finished', 'failed', 'cancelled')"
CRAWLABLE = "status IN ('queued', 'running')"
PAUSED = "status = 'paused'"
FAILED = f"""
    status = 'failed'
    AND (CAST(:failed_after AS timestamptz) IS NULL OR {_FAILED_AT} > CAST(:failed_after AS timestamptz))
    AND (CAST(:failed_before AS timestamptz) IS NULL OR {_FAILED_AT} < CAST(:failed_before AS timestamptz))
"""
"""With the times between which they failed: *failed_after*, *failed_before*, or None."""
OTHER_PRIORITY = """
    EXISTS (SELECT FROM job_queue q WHERE q.web_app_job_id = scanned.id
               AND q.status IN ('pending', 'processing') AND q.priority <> :priority)
"""
"""Jobs whose entry has not ended, and has another *priority*."""

DEFERRED = "true"
DEFERRED_OTHER_PRIORITY = "priority <> :priority"


@dataclass(frozen=True)
class Choice:
    """What is meant: *kind* is job_ids, account_id, area (with all below it), subtree_of or error_group."""

    kind: str
    value: object


@dataclass(frozen=True)
class Page:
    """What one stretch of a walk found, in id order."""

    ids: list[JobId]
    place: str | None
    """Where the next page begins; None: this was the last."""


class Selections:
    """Walks over `job` and `deferred_job`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def jobs(
        self, choice: Choice, state: str, after: str, limit: int, values: Mapping[str, object] | None = None
    ) -> Page:
        """
        The next jobs of *choice* that are in *state*, at most *limit*, without a lock.

        *state* is one of this module's conditions, *values* what it speaks of. authorizationScope jobs
        are never meant.
        """
        state = f"command <> 'authorizationScope' AND {state}"
        return self._page(_JOB, choice, state, {"after": after, "limit": limit} | dict(values or {}))

    def deferred(
        self, choice: Choice, state: str, after: str, limit: int, values: Mapping[str, object] | None = None
    ) -> Page:
        """As `jobs`, for what is deferred of an account, an area or a subtree."""
        return self._page(_DEFERRED, choice, state, {"after": after, "limit": limit} | dict(values or {}))

    def _page(self, of: dict[str, str], choice: Choice, state: str, values: dict[str, object]) -> Page:
        source = _SOURCES.get(choice.kind, "true")
        statement = text(_PAGE.format(**of, source=source, chosen=_CHOSEN[choice.kind], state=state))
        row = self._session.execute(statement, values | {"value": choice.value, "window": WINDOW}).one()
        return Page(row.ids, row.place)
