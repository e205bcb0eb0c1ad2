"""
Selections: the jobs that a command applies to, page by page.

A page reads one range of a table by its primary key, and the next page begins where it ended, so that no statement
reads more than WINDOW rows, however many the table has. The web app's table has no index by account or parent, and
none that finds the paths below another, so each command reads through the table once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from sqlalchemy import TextClause
from sqlalchemy.orm import Session

from persistence.jobs.subtree import ANCESTORS
from persistence.schema.commands import Command
from persistence.schema.ids import JobId
from persistence.schema.paths import key_in
from persistence.schema.sql import fragment, sql

START = ""
"""Before every id."""

WINDOW = 5000
"""Rows that one page reads."""

_PAGE = """
    WITH RECURSIVE scanned AS MATERIALIZED (
        SELECT $columns FROM $table WHERE id > :after AND $source ORDER BY id LIMIT :window
    ), $ancestors, found AS MATERIALIZED (
        SELECT id FROM scanned WHERE $selected AND $state ORDER BY id LIMIT :limit
    )
    SELECT ARRAY (SELECT id FROM found ORDER BY id) AS ids,
           CASE WHEN (SELECT count(*) FROM found) = :limit THEN (SELECT max(id) FROM found)
                WHEN (SELECT count(*) FROM scanned) = :window THEN (SELECT max(id) FROM scanned) END AS place
"""

_COLUMNS = {
    "job": 'id, status, command, full_path, "accountId" AS account_id, spawned_from, finished_at',
    "deferred_job": "id, full_path, account_id, spawned_from, priority",
}

_SOURCES = {
    "job_ids": "id = ANY (CAST(:value AS text[]))",
}
"""The kinds of selection for which the primary key finds the rows; for any other the whole table is read in ranges."""

_SELECTED = {
    "job_ids": "true",
    # One probe per job. A plan that may use the index of the fingerprint reads the whole group in each page or probe.
    "error_group": "(SELECT bool_or(e.fingerprint = :value) FROM job_error_log e WHERE e.job_id = scanned.id)",
    "account_id": "account_id = :value",
    "area": fragment(
        "($path = $area OR starts_with($path, $area || '/'))",
        path=key_in("full_path"),
        area=key_in("CAST(:value AS text)"),
    ),
    "subtree_of": "(id = :value OR spawned_from IN (SELECT id FROM family))",
}

UNFINISHED = fragment("status NOT IN $job_ended")
CRAWLABLE = fragment("status IN $job_crawlable")
PAUSED = fragment("status = $job_paused")
FAILED = fragment(
    """
    status = $job_failed
    AND (CAST(:failed_after AS timestamptz) IS NULL OR $failed_at > CAST(:failed_after AS timestamptz))
    AND (CAST(:failed_before AS timestamptz) IS NULL OR $failed_at < CAST(:failed_before AS timestamptz))
    """,
    failed_at="COALESCE((SELECT q.settled_at FROM job_queue q WHERE q.web_app_job_id = scanned.id), finished_at)",
)
"""The times between which the job failed are *failed_after* and *failed_before*, or None."""
OTHER_PRIORITY = fragment("""
    EXISTS (SELECT FROM job_queue q WHERE q.web_app_job_id = scanned.id
               AND q.status IN $entry_open AND q.priority <> :priority)
""")
"""The job's entry is not settled and has another *priority*."""

DEFERRED = "true"
DEFERRED_OTHER_PRIORITY = "priority <> :priority"


@dataclass(frozen=True)
class Choice:
    """What is selected: *kind* is job_ids, account_id, area (with all below it), subtree_of or error_group."""

    kind: str
    value: object


@dataclass(frozen=True)
class Page:
    """What one range of a table has, in id order."""

    ids: list[JobId]
    place: str | None
    """Where the next page begins; None after the last page."""


class Selections:
    """Pages of `job` and `deferred_job`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def jobs(
        self, choice: Choice, state: str, after: str, limit: int, values: Mapping[str, object] | None = None
    ) -> Page:
        """
        The next jobs of *choice* that meet *state*, at most *limit*, without a lock.

        *state* is one of this module's conditions, *values* are its parameters. authorizationScope jobs are never
        selected.
        """
        return self._page(_statement("job", choice.kind, state), choice, after, limit, values)

    def deferred(
        self, choice: Choice, state: str, after: str, limit: int, values: Mapping[str, object] | None = None
    ) -> Page:
        """The same for the deferred jobs of an account, an area or a subtree."""
        return self._page(_statement("deferred_job", choice.kind, state), choice, after, limit, values)

    def _page(
        self,
        statement: TextClause,
        choice: Choice,
        after: str,
        limit: int,
        values: Mapping[str, object] | None,
    ) -> Page:
        bounds = {"value": choice.value, "after": after, "limit": limit, "window": WINDOW}
        row = self._session.execute(statement, bounds | dict(values or {})).one()
        return Page(row.ids, row.place)


@cache
def _statement(table: str, kind: str, state: str) -> TextClause:
    return sql(
        _PAGE,
        table=table,
        columns=_COLUMNS[table],
        source=_SOURCES.get(kind, "true"),
        ancestors=ANCESTORS,
        selected=_SELECTED[kind],
        state=f"command <> '{Command.AUTHORIZATION_SCOPE}' AND {state}" if table == "job" else state,
    )
