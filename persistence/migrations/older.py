"""
Taking over a database that was in use before us.

The web app's tables are only looked at. Tables of ours that an older component left are copied
into the new shape: what it had queued is held, its connections and attempts are closed, since
nobody speaks for them any more. `crawlyard adopt` lets go of what is held.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

from sqlalchemy import Connection, inspect, text

from persistence.exceptions import IllegalRequestError
from persistence.schema import Base, web_app

_TEMPORARY_PREFIX = "crawlyard_older"

_LABELS_OF_STATUS = text("""
    SELECT type.typname, array_agg(label.enumlabel)
      FROM pg_attribute attribute
      JOIN pg_type type ON type.oid = attribute.atttypid AND type.typtype = 'e'
      JOIN pg_enum label ON label.enumtypid = type.oid
     WHERE attribute.attrelid = to_regclass('job') AND attribute.attname = 'status'
     GROUP BY type.typname
""")

_COPIES = {
    "socket_connection": """
        INSERT INTO socket_connection
               (id, crawler_id, connected_at, last_heartbeat, is_active, system_status, metadata, closed_at)
        SELECT id, crawler_id, COALESCE(connected_at, now()), COALESCE(last_heartbeat, now()), false,
               COALESCE(system_status::text, 'idle'), metadata, now()
          FROM {older}.socket_connection
    """,
    "job_queue": """
        -- the newest entry of a job stands for it
        INSERT INTO job_queue (id, web_app_job_id, priority, scheduled_at, attempts, max_attempts, data, status,
                               error, last_attempt_at, account_id, host, held, settled_at)
        SELECT DISTINCT ON (entry.web_app_job_id)
               entry.id, entry.web_app_job_id, COALESCE(entry.priority, 1), COALESCE(entry.scheduled_at, now()),
               COALESCE(entry.attempts, 0), COALESCE(entry.max_attempts, 3),
               -- an older order carried its account's tokens
               CASE WHEN jsonb_typeof(entry.data) = 'object'
                    THEN entry.data - '{{access_token,accessToken,refresh_token,refreshToken}}'::text[]
                    ELSE entry.data END,
               CASE WHEN entry.status::text IN ('completed', 'failed') THEN entry.status::text ELSE 'pending' END,
               entry.error, entry.last_attempt_at, job."accountId",
               COALESCE(substring(job."gitlabGraphQLUrl" FROM '://([^/]+)'), ''),
               entry.status::text NOT IN ('completed', 'failed'),
               CASE WHEN entry.status::text IN ('completed', 'failed')
                    THEN COALESCE(entry.last_attempt_at, entry.scheduled_at, now()) END
          FROM {older}.job_queue entry
          JOIN job ON job.id = entry.web_app_job_id
         ORDER BY entry.web_app_job_id, entry.scheduled_at DESC NULLS LAST, entry.id DESC
    """,
    "job_assignment_mapping": """
        -- two attempts could share one crawler_job_id: all but the newest get their own id behind it
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
               attempt.metadata
          FROM {older}.job_assignment_mapping attempt
          JOIN job ON job.id = attempt.web_app_job_id
    """,
    "job_error_log": """
        INSERT INTO job_error_log (id, job_id, timestamp, error_type, error_message, stack_trace, context,
                                   retry_count, is_recoverable, resolution)
        SELECT error.id, error.job_id, COALESCE(error.timestamp, now()), COALESCE(error.error_type, 'unknown'),
               COALESCE(error.error_message, ''), error.stack_trace, error.context, COALESCE(error.retry_count, 0),
               COALESCE(error.is_recoverable, true), error.resolution
          FROM {older}.job_error_log error
          JOIN job ON job.id = error.job_id
    """,
}


def check_shared_tables(connection: Connection) -> None:
    """
    Refuse a web app's database that we could not work with, before anything is changed.

    Raises IllegalRequestError: a column is missing, or the status of a job is an enum that does
    not know `cancelled`; its text holds the statement that the database's owner must run.
    """
    labels = connection.execute(_LABELS_OF_STATUS).one_or_none()
    if labels is not None and "cancelled" not in labels[1]:
        raise IllegalRequestError(
            "job.status is an enum without 'cancelled'; its owner must first run: "
            f"ALTER TYPE \"{labels[0]}\" ADD VALUE 'cancelled';"
        )
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    for table in Base.metadata.tables.values():
        if table.name not in present or table.name not in _SHARED:
            continue
        missing = set(table.columns.keys()) - {column["name"] for column in inspector.get_columns(table.name)}
        if missing:
            raise IllegalRequestError(f'table "{table.name}" exists but lacks {", ".join(sorted(missing))}')


_SHARED = {
    mapped.__tablename__
    for mapped in (
        web_app.User,
        web_app.Account,
        web_app.Area,
        web_app.AreaAuthorization,
        web_app.Job,
        web_app.JobArea,
    )
}


@contextmanager
def carried_over(connection: Connection, present: AbstractSet[str]) -> Iterator[None]:
    """Move the tables *present* aside while ours are created, then copy their rows and drop them."""
    carried = [name for name in _COPIES if name in present]
    if not carried:
        yield
        return
    connection.execute(text(f"CREATE SCHEMA {_TEMPORARY_PREFIX}"))
    for name in carried:
        connection.execute(text(f"ALTER TABLE {name} SET SCHEMA {_TEMPORARY_PREFIX}"))
    yield
    for name in carried:
        connection.execute(text(_COPIES[name].format(older=_TEMPORARY_PREFIX)))
    # together: they may have foreign keys to each other
    connection.execute(text("DROP TABLE " + ", ".join(f"{_TEMPORARY_PREFIX}.{name}" for name in carried)))
    connection.execute(text(f"DROP SCHEMA {_TEMPORARY_PREFIX}"))
