"""What is compared after every step: the state of the model and of the database, read by one statement."""

import json
from collections.abc import Container
from typing import Any

import psycopg

from proofs.model.clock import TICK_S
from proofs.model.model import Model
from proofs.model.state import Connection, Entry

_LOOK = """
    SELECT jsonb_build_object(
        'job', (SELECT jsonb_object_agg(id, jsonb_build_array(status, "accountId", command, full_path)) FROM job),
        'entry', (SELECT jsonb_object_agg(web_app_job_id, jsonb_build_array(
                      status, held, attempts, CASE WHEN status <> 'completed' THEN losses ELSE 0 END, goodbyes,
                      priority)) FROM job_queue),
        'due in', (SELECT jsonb_object_agg(web_app_job_id, EXTRACT(epoch FROM scheduled_at - clock_timestamp()))
                     FROM job_queue WHERE status = 'pending'),
        'attempt', (SELECT jsonb_object_agg(crawler_job_id, jsonb_build_array(
                        web_app_job_id, connection_id, status, stale_words)) FROM job_assignment_mapping),
        'connection', (SELECT jsonb_object_agg(id, jsonb_build_array(
                           is_active, goodbye_at IS NOT NULL, lost_at IS NOT NULL, incarnation, link,
                           capacity, reported,
                           COALESCE((SELECT jsonb_agg(j ORDER BY j) FROM jsonb_array_elements(active_jobs) j), '[]')))
                         FROM socket_connection WHERE is_active),
        'closed', (SELECT jsonb_object_agg(id, active_jobs) FROM socket_connection WHERE NOT is_active),
        'error', (SELECT jsonb_object_agg(job_id || ' ' || error_type, rows)
                    FROM (SELECT job_id, error_type, count(*) AS rows FROM job_error_log GROUP BY 1, 2) error),
        'account', (SELECT jsonb_object_agg(a.id, jsonb_build_array(
                        l.paused_at IS NOT NULL, l.held_at IS NOT NULL,
                        COALESCE(l.held_reason = 'authorization_needed', false)))
                      FROM account a LEFT JOIN account_lane l ON l.account_id = a.id),
        'rejected', (SELECT jsonb_object_agg(reason, rows)
                       FROM (SELECT reason, count(*) AS rows FROM rejected_message GROUP BY 1) reason),
        'event', (SELECT jsonb_object_agg(type, rows)
                    FROM (SELECT type, count(*) AS rows FROM dispatch_event
                           WHERE type = 'connection_expired' GROUP BY 1) event)
    )::text
"""

_STEP_S = 5.0
"""The longest that a step may take: an entry that it backs off is due later than the model says."""


class DatabaseState:
    """The database at one moment."""

    def __init__(self, database: psycopg.Connection) -> None:
        (text,) = database.execute(_LOOK, prepare=True).fetchone()
        self.rows: dict[str, Any] = {name: value or {} for name, value in json.loads(text).items()}
        self._adopted: set[str] = set()

    def child(self, path: str, command: str) -> str:
        """Return the one job of this path and command."""
        jobs = self.rows["job"].items()
        (found,) = [id_ for id_, job in jobs if job[2:] == [command, path]]
        return found

    def new_attempts(self, known: Container[str]) -> list[tuple[str, str, str]]:
        """Return fence, job and connection of the attempts that are not known."""
        attempts = self.rows["attempt"].items()
        return sorted((fence, job, by) for fence, (job, by, *_) in attempts if fence not in known)

    def was_settled(self, job_id: str) -> bool:
        """Return True if the entry is no longer claimable."""
        status, is_held, *_ = self.rows["entry"][job_id]
        return status != "pending" or is_held


def check(model: Model, state: DatabaseState, age_s: float) -> None:
    """
    Fail with all differences between the model and the database.

    *age_s* is how long this run has taken: the database's clock has moved meanwhile, and the model's has not.
    """
    expected = _expected(model)
    rows = dict(state.rows)
    due_in = rows.pop("due in")
    differs = [
        f"{table} {key}: the model says {expected[table].get(key)}, the database {rows[table].get(key)}"
        for table in expected
        for key in sorted({*expected[table], *rows[table]})
        if expected[table].get(key) != rows[table].get(key)
    ]
    differs += _dues(model, due_in, age_s)
    assert not differs, "\n".join(["", *differs])


def _expected(model: Model) -> dict[str, dict[str, Any]]:
    jobs, connections = model.jobs.values(), model.connections.values()
    return {
        "job": {j.id: [j.status, j.account.id, j.command, j.path] for j in jobs},
        "entry": {j.id: _entry(j.entry) for j in jobs if j.entry},
        "attempt": {a.fence: [a.job.id, a.connection.id, a.status, a.stale] for a in model.attempts.values()},
        "connection": {c.id: _connection(c) for c in connections if c.active},
        "closed": {c.id: [] for c in connections if not c.active},
        "error": {f"{j.id} {kind}": rows for j in jobs for kind, rows in j.errors.items()},
        "account": {
            a.id: [a.paused, a.blocked_for is not None, a.authorization_requested]
            for a in model.accounts.values()
        },
        "rejected": dict(+model.rejected),
        "event": {"connection_expired": model.expired} if model.expired else {},
    }


def _entry(entry: Entry) -> list[Any]:
    losses = entry.losses if entry.status != "completed" else 0  # they are counted in a row, which has ended
    return [entry.status, entry.parked, entry.attempts, losses, entry.disconnects, entry.priority]


def _connection(connection: Connection) -> list[Any]:
    live = sorted(attempt.fence for attempt in connection.live)
    is_leaving = connection.disconnected_at is not None
    link = [connection.link.n, connection.link.name] if connection.link else [None, None]
    return [
        *(True, is_leaving, connection.lost_at is not None, *link),
        *(connection.capacity, connection.reported, live),
    ]


def _dues(model: Model, due_in: dict[str, float], age_s: float) -> list[str]:
    """Return the pending entries that are due earlier or later than they may be."""
    differs = []
    for id_, seconds in due_in.items():
        entry = model.jobs[id_].entry if id_ in model.jobs else None
        if entry is not None:
            least, most = ((time - model.now) * TICK_S for time in entry.due)
            # An entry that is due has its place in the queue by when it became due, so the past is checked too.
            if not least - age_s - _STEP_S <= seconds <= max(most, 0) + _STEP_S:
                differs.append(f"entry {id_}: due in {seconds} s, the model says {least} to {most}")
    return differs
