"""
Takes over a database that an older component used.

The older component's tables are copied into ours: its queue entries are parked until `crawlyard adopt`, and its
connections and attempts are closed, because no crawler reports on them any more.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

from sqlalchemy import Connection, text

from persistence.schema.sql import sql

_COPIES = {
    "socket_connection": """
        INSERT INTO socket_connection
               (id, crawler_id, connected_at, last_heartbeat, is_active, system_status, metadata, closed_at)
        SELECT id, crawler_id, COALESCE(connected_at, now()), COALESCE(last_heartbeat, now()), false,
               COALESCE(system_status::text, 'idle'), metadata::jsonb, now()
          FROM crawlyard_older.socket_connection
    """,
    "job_queue": """
        -- the newest entry of a job stands for it
        INSERT INTO job_queue (id, web_app_job_id, priority, scheduled_at, attempts, max_attempts, data, status,
                               error, last_attempt_at, account_id, host, held, settled_at)
        SELECT DISTINCT ON (entry.web_app_job_id)
               entry.id, entry.web_app_job_id, COALESCE(entry.priority, 1), COALESCE(entry.scheduled_at, now()),
               COALESCE(entry.attempts, 0), COALESCE(entry.max_attempts, 3),
               -- an older entry contained its account's tokens
               CASE WHEN jsonb_typeof(entry.data::jsonb) = 'object'
                    THEN entry.data::jsonb - '{access_token,accessToken,refresh_token,refreshToken}'::text[]
                    ELSE entry.data::jsonb END,
               CASE WHEN entry.status::text IN ('completed', 'failed') THEN entry.status::text ELSE 'pending' END,
               entry.error, entry.last_attempt_at, job."accountId",
               COALESCE(substring(job."gitlabGraphQLUrl" FROM '://([^/]+)'), ''),
               entry.status::text NOT IN ('completed', 'failed'),
               CASE WHEN entry.status::text IN ('completed', 'failed')
                    THEN COALESCE(entry.last_attempt_at, entry.scheduled_at, now()) END
          FROM crawlyard_older.job_queue entry
          JOIN job ON job.id = entry.web_app_job_id
         ORDER BY entry.web_app_job_id, entry.scheduled_at DESC NULLS LAST, entry.id DESC
    """,
    "job_assignment_mapping": """
        -- two attempts could share one crawler_job_id: all but the newest get their own id appended to it
        INSERT INTO job_assignment_mapping (id, web_app_job_id, crawler_job_id, account_id, user_id, created_at,
                                            assigned_at, completed_at, status, metadata)
        SELECT attempt.id, attempt.web_app_job_id,
               CASE WHEN attempt.crawler_job_id IS NULL THEN attempt.id
                    WHEN row_number() OVER (PARTITION BY attempt.crawler_job_id
                                                ORDER BY attempt.created_at DESC NULLS LAST, attempt.id DESC) = 1
                    THEN attempt.crawler_job_id ELSE attempt.crawler_job_id || ':' || attempt.id END,
               attempt.account_id, attempt.user_id, COALESCE(attempt.created_at, now()), attempt.assigned_at,
               COALESCE(attempt.completed_at, now()),
               CASE WHEN attempt.status::text IN ('completed', 'failed', 'cancelled')
                    THEN attempt.status::text ELSE 'cancelled' END,
               attempt.metadata::jsonb
          FROM crawlyard_older.job_assignment_mapping attempt
          JOIN job ON job.id = attempt.web_app_job_id
    """,
    "job_error_log": """
        INSERT INTO job_error_log (id, job_id, timestamp, error_type, error_message, stack_trace, context,
                                   retry_count, is_recoverable, resolution)
        SELECT error.id, error.job_id, COALESCE(error.timestamp, now()), COALESCE(error.error_type, 'unknown'),
               COALESCE(error.error_message, ''), error.stack_trace, error.context::jsonb,
               COALESCE(error.retry_count, 0), COALESCE(error.is_recoverable, true), error.resolution
          FROM crawlyard_older.job_error_log error
          JOIN job ON job.id = error.job_id
    """,
}


@contextmanager
def carried_over(connection: Connection, present: AbstractSet[str]) -> Iterator[None]:
    """Move the older tables aside while ours are created, then copy their rows and drop them."""
    carried = [name for name in _COPIES if name in present]
    if not carried:
        yield
        return
    connection.execute(text("CREATE SCHEMA crawlyard_older"))
    for name in carried:
        connection.execute(sql("ALTER TABLE $name SET SCHEMA crawlyard_older", name=name))
    yield
    for name in carried:
        connection.execute(text(_COPIES[name]))
    # In one statement: they may have foreign keys to each other.
    tables = ", ".join(f"crawlyard_older.{name}" for name in carried)
    connection.execute(sql("DROP TABLE $tables", tables=tables))
    connection.execute(text("DROP SCHEMA crawlyard_older"))
