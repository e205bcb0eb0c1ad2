"""
Adopts the jobs of an older database, which a migration leaves alone.

Their queue entries were carried over from an older component and parked. A parked entry whose job is queued or
running is one of these: if the web app had paused the job, its status would be `paused`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update
from sqlalchemy.orm import Session

from persistence.db.engine import engine
from persistence.db.sqlstate import translate_errors
from persistence.jobs.entries import Entries
from persistence.migrations.head import require_head
from persistence.sanitize.known_tokens import KnownTokens
from persistence.schema.commands import Command
from persistence.schema.sql import fragment, sql
from persistence.schema.tables import Adoption

_ADOPTED_FROM = select(Adoption.adopted_from)
_LOCK_ADOPTED_FROM = _ADOPTED_FROM.with_for_update(key_share=True)
_CLEAR = update(Adoption).values(adopted_from=None)

_OWN_COMMAND = Command.AUTHORIZATION_SCOPE.value
"""Never sent to a crawler: if an older component queued such a job, its entry stays parked."""

_JOBS = sql(
    """
    SELECT status::text, count(*) FROM job
     WHERE created_at <= :adopted_from AND command <> '$own_command'
     GROUP BY 1 ORDER BY 2 DESC, 1
    """,
    own_command=_OWN_COMMAND,
)

_PARKED = fragment(
    """
    FROM job_queue q JOIN job ON job.id = q.web_app_job_id
   WHERE q.held AND q.status = $entry_pending AND job.status IN $job_crawlable
     AND job.created_at <= :adopted_from AND job.command <> '$own_command'
    """,
    own_command=_OWN_COMMAND,
)

_COUNT_PARKED = sql("SELECT count(*) $parked", parked=_PARKED)

_LOCK_PARKED = sql("SELECT q.id $parked ORDER BY q.id FOR NO KEY UPDATE OF q", parked=_PARKED)


@dataclass(frozen=True)
class UnadoptedJobs:
    """The jobs of an older database, which reconcile does not touch."""

    adopted_from: datetime | None
    """Jobs created up to this time are left alone; None if there are none, or they were adopted."""
    jobs: Mapping[str, int]
    """By status. Queued and running jobs will be queued; for the others only later changes count."""
    held_entries: int
    """Entries that were carried over and are parked until the adoption."""


def read_unadopted_jobs() -> UnadoptedJobs:
    """What `adopt` would release. Raises SchemaError if the schema is not at head."""
    with translate_errors(), engine().connect() as connection:
        require_head(connection)
        return _read_unadopted(connection, connection.execute(_ADOPTED_FROM).scalar_one())


def adopt() -> UnadoptedJobs:
    """
    Release all jobs that were left alone; returns what they were.

    Reconcile finds the jobs from its next run on. Calling it again changes nothing. Raises Contended if a lock was
    not granted in time; then nothing has changed.
    """
    with translate_errors(), engine().begin() as connection:
        require_head(connection)
        unadopted = _read_unadopted(connection, connection.execute(_LOCK_ADOPTED_FROM).scalar_one())
        parked = list(connection.scalars(_LOCK_PARKED, {"adopted_from": unadopted.adopted_from}))
        session = Session(connection)
        Entries(session, KnownTokens(session)).adopt(parked)
        connection.execute(_CLEAR)
        return unadopted


def _read_unadopted(connection: Connection, adopted_from: datetime | None) -> UnadoptedJobs:
    if adopted_from is None:
        return UnadoptedJobs(None, {}, 0)
    when = {"adopted_from": adopted_from}
    jobs = {status: count for status, count in connection.execute(_JOBS, when)}  # noqa: C416 - rows, not pairs
    return UnadoptedJobs(adopted_from, jobs, connection.execute(_COUNT_PARKED, when).scalar_one())
