"""
Fills a database with many waiting jobs and many live attempts, set-based: through messages it would take too long.

The rows are the same as if messages had created them: `crawlyard audit` finds no fault.
"""

from dataclasses import dataclass, field

from benchmarks.harness.bed import Bed
from benchmarks.harness.world import HOST

CAPACITY = 5

_CONNECTIONS = """
    INSERT INTO socket_connection (id, capacity)
    SELECT lpad(n::text, 26, '0'), %s FROM generate_series(0, %s - 1) n
"""

_ROWS = f"""
    WITH new AS MATERIALIZED (
        -- in the order of the paths, as most indexes of `job` are, so that these are filled from end to end
        SELECT n, 'job-' || lpad(n::text, 22, '0') AS id, 'group-' || lpad(n::text, 8, '0') || '/project' AS path,
               'account-' || ({{account}}) AS account, 'https://{HOST}/api/graphql' AS url
          FROM generate_series(%(first)s::bigint, %(first)s + %(count)s - 1) n
    )
"""

_NEW = f"""
    {_ROWS}, lanes AS (
        INSERT INTO account_lane (account_id) SELECT DISTINCT account FROM new ON CONFLICT DO NOTHING
    ), jobs AS (
        INSERT INTO job (id, command, full_path, "accountId", provider, "gitlabGraphQLUrl", "updatedAt")
        SELECT id, 'issues', path, account, 'gitlab-cloud', url, now() FROM new
    ), entries AS (
        INSERT INTO job_queue (id, web_app_job_id, account_id, host, status, data, identity, last_attempt_at)
        SELECT id, id, account, '{HOST}', %(status)s, '{{{{"gitlab_host": "https://{HOST}"}}}}',
               jsonb_build_array('issues', url, path, '')::text,
               CASE WHEN %(status)s = 'processing' THEN clock_timestamp() END
          FROM new
    )
"""

_WAITING = f"{_NEW} SELECT"

_ENDED = f"""
    {_ROWS}, jobs AS (
        INSERT INTO job (id, command, full_path, "accountId", provider, "gitlabGraphQLUrl", status, created_at,
                         started_at, finished_at, "updatedAt")
        SELECT id, 'issues', path, account, 'gitlab-cloud', url, 'finished', now(), now(), now(), now() FROM new
    ), attempts AS (
        INSERT INTO job_assignment_mapping
               (id, crawler_job_id, web_app_job_id, account_id, host, assigned_at, status, completed_at)
        SELECT fence, fence, id, account, '{HOST}', clock_timestamp(), %(status)s, clock_timestamp()
          FROM new, lpad(n::text, 26, '0') AS fence
    )
    INSERT INTO job_queue (id, web_app_job_id, account_id, host, status, identity, last_attempt_at, settled_at)
    SELECT id, id, account, '{HOST}', %(status)s, jsonb_build_array('issues', url, path, '')::text, now(), now()
      FROM new
"""

_MARK_ASSIGNED = f"""
    {_NEW}, attempts AS (
        INSERT INTO job_assignment_mapping
               (id, crawler_job_id, web_app_job_id, connection_id, account_id, host, assigned_at)
        SELECT fence, fence, id, lpad((n %% %(connections)s)::text, 26, '0'), account, '{HOST}', clock_timestamp()
          FROM new, lpad(n::text, 26, '0') AS fence
     RETURNING connection_id, crawler_job_id, web_app_job_id, account_id
    ), counts AS (
        INSERT INTO live_count SELECT account_id, '{HOST}', 0, count(*) FROM attempts GROUP BY account_id
    ), events AS (
        INSERT INTO dispatch_event (type, job_id, account_id, connection_id, payload)
        SELECT 'job_assigned', web_app_job_id, account_id, connection_id,
               jsonb_build_object('crawler_job_id', crawler_job_id)
          FROM attempts
    )
    UPDATE socket_connection c SET active_jobs = used.fences
      FROM (SELECT connection_id, jsonb_agg(crawler_job_id ORDER BY crawler_job_id) AS fences
              FROM attempts GROUP BY connection_id) used
     WHERE c.id = used.connection_id
"""

_COMPLETE = """
    WITH ended AS (
        SELECT id FROM job_assignment_mapping WHERE completed_at IS NULL ORDER BY id LIMIT %s
    ), attempts AS (
        UPDATE job_assignment_mapping a SET status = 'completed', completed_at = clock_timestamp()
          FROM ended WHERE a.id = ended.id
     RETURNING a.web_app_job_id, a.connection_id, a.crawler_job_id::text AS fence, a.account_id, a.host
    ), counts AS (
        UPDATE live_count c SET live = c.live - ended.live
          FROM (SELECT account_id, host, count(*) AS live FROM attempts GROUP BY 1, 2) ended
         WHERE c.account_id = ended.account_id AND c.host = ended.host AND c.shard = 0
    ), entries AS (
        UPDATE job_queue q SET status = 'completed', settled_at = clock_timestamp()
          FROM attempts WHERE q.web_app_job_id = attempts.web_app_job_id
    ), jobs AS (
        UPDATE job SET status = 'finished', started_at = now(), finished_at = now(), "updatedAt" = now()
          FROM attempts WHERE job.id = attempts.web_app_job_id
    )
    UPDATE socket_connection c SET active_jobs = c.active_jobs - freed.fences
      FROM (SELECT connection_id, array_agg(fence) AS fences FROM attempts GROUP BY connection_id) freed
     WHERE c.id = freed.connection_id
"""


@dataclass
class Depth:
    """Accounts with waiting jobs, and a fleet with live attempts."""

    bed: Bed
    account: str
    """SQL for the number of the account of job *n*."""
    made: int = field(default=0, init=False)

    def connect(self, count: int, capacity: int = CAPACITY) -> None:
        """Add connections without jobs."""
        self.bed.rows(_CONNECTIONS, capacity, count)

    def wait(self, count: int) -> None:
        """Add waiting jobs."""
        self._make(_WAITING, "pending", count)

    def leave(self, count: int) -> None:
        """Add finished jobs, each with one attempt."""
        self._make(_ENDED, "completed", count)

    def occupy(self, count: int, connections: int) -> None:
        """Add jobs with live attempts, dealt out to the connections in turn; call it once, before any round."""
        self._make(_MARK_ASSIGNED, "processing", count, connections)

    def complete(self, count: int) -> None:
        """Complete attempts, the oldest first."""
        self.bed.rows(_COMPLETE, count)

    def _make(self, sql: str, status: str, count: int, connections: int = 0) -> None:
        values = {"first": self.made, "count": count, "status": status, "connections": connections}
        with self.bed.database.transaction():
            # Skip the foreign key checks, which take half of the time: the rows satisfy them by construction.
            self.bed.rows("SET LOCAL session_replication_role = replica")
            self.bed.database.execute(sql.format(account=self.account.replace("%", "%%")), values)
        self.made += count
