"""
The statements of one life in bare SQL, for a batch or for one job: they take arrays, as Crawlyard's do.

The placeholders are psycopg's.
"""

import json
import re
from itertools import count

from benchmarks.harness.world import HOST

INSERT_JOBS = f"""
    INSERT INTO job (id, command, full_path, "accountId", provider, "gitlabGraphQLUrl", status, created_at, "updatedAt")
    SELECT id, 'issues', path, account, 'gitlab-cloud', 'https://{HOST}/api/graphql', 'queued', now(), now()
      FROM unnest(%s::text[], %s::text[], %s::text[]) AS r(id, path, account)
"""

INSERT_ENTRIES = f"""
    INSERT INTO job_queue (id, web_app_job_id, account_id, host, data, identity)
    SELECT id, id, account, '{HOST}', %s, jsonb_build_array('issues', 'https://{HOST}/api/graphql', path, '')::text
      FROM unnest(%s::text[], %s::text[], %s::text[]) AS r(id, path, account)
"""

EVENTS = """
    INSERT INTO dispatch_event (type, job_id, account_id, connection_id, payload)
    SELECT %s, job_id, account, connection, %s
      FROM unnest(%s::text[], %s::text[], %s::text[]) AS r(job_id, account, connection)
"""

NOTIFY = "SELECT pg_notify('crawlyard_event', '')"

CLAIM = """
    SELECT web_app_job_id, account_id FROM job_queue
     WHERE status = 'pending' AND ready AND NOT held
     ORDER BY account_id, host, priority DESC, scheduled_at, id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
"""

PROCESS = """
    UPDATE job_queue SET status = 'processing', last_attempt_at = clock_timestamp() WHERE web_app_job_id = ANY (%s)
"""

ASSIGN = """
    INSERT INTO job_assignment_mapping
           (id, crawler_job_id, web_app_job_id, connection_id, account_id, host, assigned_at)
    SELECT id, id, job_id, connection, account, 'gitlab.example.org', clock_timestamp()
      FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) AS r(id, job_id, connection, account)
"""

UPDATE_CONNECTIONS = """
    UPDATE socket_connection c
       SET active_jobs = COALESCE((SELECT jsonb_agg(a.crawler_job_id) FROM job_assignment_mapping a
                                    WHERE a.connection_id = c.id AND a.completed_at IS NULL), '[]')
     WHERE c.id = ANY (%s)
"""

BEAT = "UPDATE socket_connection SET last_heartbeat = clock_timestamp() WHERE id = ANY (%s)"

RUN = """
    UPDATE job_assignment_mapping SET status = 'running', progressed_at = clock_timestamp()
     WHERE crawler_job_id = ANY (%s)
"""

START = """
    UPDATE job SET status = 'running', started_at = now(), progress = %s, "updatedAt" = now() WHERE id = ANY (%s)
"""

PROGRESS = 'UPDATE job SET progress = %s, resume_state = %s, "updatedAt" = now() WHERE id = ANY (%s)'

CLOSE = """
    UPDATE job_assignment_mapping SET status = 'completed', completed_at = clock_timestamp()
     WHERE crawler_job_id = ANY (%s)
"""

COMPLETE = "UPDATE job_queue SET status = 'completed', settled_at = clock_timestamp() WHERE web_app_job_id = ANY (%s)"

FINISH = """
    UPDATE job SET status = 'finished', finished_at = now(), progress = %s, resume_state = NULL, "updatedAt" = now()
     WHERE id = ANY (%s)
"""


def as_one(*statements: str) -> str:
    """Combine statements that change different rows into one: all but the last become CTEs."""
    *first, last = statements
    steps = ", ".join(f"step_{number} AS ({statement})" for number, statement in enumerate(first))
    return f"WITH {steps} {last}" if steps else last


def numbered(statement: str) -> str:
    """Replace the placeholders by $1, $2 … in order, for asyncpg."""
    numbers = count(1)
    return re.sub("%s", lambda _: f"${next(numbers)}", statement)


def progress(fence: str, *milestones: str) -> str:
    """Return JSON as long as what Crawlyard stores in `job.progress`."""
    at = "2026-05-04T03:02:01.123456Z"
    history = [{"at": at, "attempt": fence, "completion": 0.2, "processed": 20} for _ in milestones]
    return json.dumps(
        {
            "crawlerJobId": fence,
            "completion": 0.2,
            "counts": {"issue": 20},
            "totals": {"issue": 100},
            "stage": "fetching",
            "entityType": "issue",
            "message": "page 1 of 5",
            "currentPage": 1,
            "startedAt": at,
            "updatedAt": at,
            "resumeStateAt": at,
            "secondsElapsed": 1.5,
            "secondsRemaining": 6.0,
            "milestones": dict.fromkeys(milestones, at),
            "history": history,
            "best": {"completion": 0.2, "processed": 20, "page": 1},
        }
    )
