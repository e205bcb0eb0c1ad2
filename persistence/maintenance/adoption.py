"""
Taking up the jobs of an older database, which a migration left alone.

What we hold of them are queue entries carried over from an older component. An entry that is held
though its job is queued or running is one of these: the web app's own word would be `paused`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from persistence.db.engine import engine
from persistence.db.sqlstate import translate_errors
from persistence.jobs.entries import Entries
from persistence.migrations.head import require_head
from persistence.settings import settings

_LIMITS = text("SELECT set_config('lock_timeout', :lock, true)")

_ADOPTED_FROM = text("SELECT adopted_from FROM adoption")

_JOBS = text("""
    SELECT status::text, count(*) FROM job
     WHERE created_at <= :adopted_from AND command <> 'authorizationScope'
     GROUP BY 1 ORDER BY 2 DESC, 1
""")

_PARKED = """
    FROM job_queue q JOIN job ON job.id = q.web_app_job_id
   WHERE q.held AND q.status = 'pending' AND job.status IN ('queued', 'running')
     AND job.created_at <= :adopted_from AND job.command <> 'authorizationScope'
"""
"""The web app's own command is never sent to a crawler: where an older component had queued it, it stays held."""

_COUNT_PARKED = text(f"SELECT count(*) {_PARKED}")

_LOCK_PARKED = text(f"SELECT q.id {_PARKED} ORDER BY q.id FOR NO KEY UPDATE OF q")

_LOCK_ADOPTION = text("SELECT adopted_from FROM adoption FOR NO KEY UPDATE")

_CLEAR = text("UPDATE adoption SET adopted_from = NULL")


@dataclass(frozen=True)
class UnadoptedJobs:
    """What an older database holds that reconcile does not look at."""

    adopted_from: datetime | None
    """Jobs created up to then are left alone; None: there are none, or they were adopted."""
    jobs: Mapping[str, int]
    """By status. The queued and the running will be taken up, of the rest only the word is heard."""
    held_entries: int
    """Carried over in the queue, and seated by nobody until then."""


def read_unadopted_jobs() -> UnadoptedJobs:
    """What `adopt` would release. Raises SchemaError where the schema is not at head."""
    with translate_errors(), engine().connect() as connection:
        require_head(connection)
        return _read_unadopted(connection, connection.execute(_ADOPTED_FROM).scalar_one())


def adopt() -> UnadoptedJobs:
    """
    Release everything that was left alone; returns what that was.

    Reconcile finds the jobs from its next round on. Safe twice. Raises Contended where a lock was
    not had in time: nothing has changed then.
    """
    with translate_errors(), engine().begin() as connection:
        require_head(connection)
        connection.execute(_LIMITS, {"lock": f"{settings().lock_timeout.total_seconds() * 1000:.0f}ms"})
        unadopted = _read_unadopted(connection, connection.execute(_LOCK_ADOPTION).scalar_one())
        parked = list(connection.scalars(_LOCK_PARKED, {"adopted_from": unadopted.adopted_from}))
        Entries(Session(connection)).adopt(parked)
        connection.execute(_CLEAR)
        return unadopted


def _read_unadopted(connection: Connection, adopted_from: datetime | None) -> UnadoptedJobs:
    if adopted_from is None:
        return UnadoptedJobs(None, {}, 0)
    when = {"adopted_from": adopted_from}
    jobs = {status: count for status, count in connection.execute(_JOBS, when)}  # noqa: C416 - rows, not pairs
    return UnadoptedJobs(adopted_from, jobs, connection.execute(_COUNT_PARKED, when).scalar_one())
