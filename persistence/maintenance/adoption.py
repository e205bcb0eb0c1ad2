"""
Taking up the jobs of an older database, which a migration left alone.

What we hold of them are queue entries carried over from an older component. An entry that is held
though its job is queued or running is one of these: the web app's own word would be `paused`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from persistence.db.engine import engine
from persistence.db.sqlstate import raised_as_ours
from persistence.migrations.head import require_head
from persistence.settings import settings

_LIMITS = text("SELECT set_config('lock_timeout', :lock, true)")

_ADOPTED_FROM = text("SELECT adopted_from FROM adoption")

_JOBS = text("""
    SELECT status::text, count(*) FROM job
     WHERE created_at <= :adopted_from AND command <> 'authorizationScope'
     GROUP BY 1 ORDER BY 2 DESC, 1
""")

_HELD = """
    FROM job_queue q JOIN job ON job.id = q.web_app_job_id
   WHERE q.held AND q.status = 'pending' AND job.status IN ('queued', 'running')
     AND job.created_at <= :adopted_from AND job.command <> 'authorizationScope'
"""
"""The web app's own command is never sent to a crawler: where an older component had queued it, it stays held."""

_COUNT_HELD = text(f"SELECT count(*) {_HELD}")

_LOCK_HELD = text(f"SELECT q.id {_HELD} ORDER BY q.id FOR NO KEY UPDATE OF q")

_RELEASE = text("""
    UPDATE job_queue SET held = false, ready = scheduled_at <= clock_timestamp()
     WHERE id = ANY (CAST(:ids AS text[]))
""")

_LOCK_ADOPTION = text("SELECT adopted_from FROM adoption FOR NO KEY UPDATE")

_CLEAR = text("UPDATE adoption SET adopted_from = NULL")


@dataclass(frozen=True)
class LeftAlone:
    """What an older database holds that reconcile does not look at."""

    adopted_from: datetime | None
    """Jobs created up to then are left alone; None: there are none, or they were adopted."""
    jobs: Mapping[str, int]
    """By status. The queued and the running will be taken up, of the rest only the word is heard."""
    held_entries: int
    """Carried over in the queue, and seated by nobody until then."""


def left_alone() -> LeftAlone:
    """What `adopt` would release. Raises SchemaError where the schema is not at head."""
    with raised_as_ours(), engine().connect() as connection:
        require_head(connection)
        return _look(connection, connection.execute(_ADOPTED_FROM).scalar_one())


def adopt() -> LeftAlone:
    """
    Release everything that was left alone; returns what that was.

    Reconcile finds the jobs from its next round on. Safe twice. Raises Contended where a lock was
    not had in time: nothing has changed then.
    """
    with raised_as_ours(), engine().begin() as connection:
        require_head(connection)
        connection.execute(_LIMITS, {"lock": f"{settings().lock_timeout.total_seconds() * 1000:.0f}ms"})
        released = _look(connection, connection.execute(_LOCK_ADOPTION).scalar_one())
        held = list(connection.scalars(_LOCK_HELD, {"adopted_from": released.adopted_from}))
        connection.execute(_RELEASE, {"ids": held})
        connection.execute(_CLEAR)
        return released


def _look(connection: Connection, adopted_from: datetime | None) -> LeftAlone:
    if adopted_from is None:
        return LeftAlone(None, {}, 0)
    when = {"adopted_from": adopted_from}
    jobs = {status: count for status, count in connection.execute(_JOBS, when)}  # noqa: C416 - rows, not pairs
    return LeftAlone(adopted_from, jobs, connection.execute(_COUNT_HELD, when).scalar_one())
