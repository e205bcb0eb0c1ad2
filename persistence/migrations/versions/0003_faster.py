"""
What makes passes and words cheap, also while somebody holds an old snapshot open.

An attempt lives while it has no completed_at: so that to begin, or go on with, a job changes no index.
Live attempts are counted as they come and go, and each account knows how old its oldest waiting job is.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

ATTEMPTS = """
    ALTER TABLE job_assignment_mapping SET (fillfactor = 45);
    DROP INDEX job_assignment_mapping_live_account_idx;
    DROP INDEX job_assignment_mapping_live_connection_idx;
    DROP INDEX job_assignment_mapping_live_key;
    CREATE INDEX job_assignment_mapping_live_connection_idx ON job_assignment_mapping (connection_id)
     WHERE completed_at IS NULL;
    CREATE UNIQUE INDEX job_assignment_mapping_live_key ON job_assignment_mapping (web_app_job_id)
     WHERE completed_at IS NULL;
"""

LANES = """
    ALTER TABLE account_lane ADD COLUMN claim_from TIMESTAMP WITH TIME ZONE DEFAULT '-infinity' NOT NULL;
    INSERT INTO account_lane (account_id) SELECT DISTINCT account_id FROM job_queue ON CONFLICT DO NOTHING;

    CREATE TABLE live_count (
        account_id TEXT NOT NULL,
        host TEXT NOT NULL,
        shard SMALLINT NOT NULL,
        live INTEGER NOT NULL,
        CONSTRAINT live_count_pkey PRIMARY KEY (account_id, host, shard)
    ) WITH (fillfactor = 50);
    INSERT INTO live_count
    SELECT COALESCE(account_id, ''), host, 0, count(*) FROM job_assignment_mapping
     WHERE completed_at IS NULL GROUP BY 1, 2;
"""

CRAWLER_ORDER = """
    -- What a gateway hands to a crawler, one row a live assignment; it adds the account's token itself.
    CREATE OR REPLACE VIEW crawler_order AS
    SELECT assignment.crawler_job_id,
           connection.id AS connection_id,
           job.command::text AS command,
           CASE job.command::text
               WHEN 'GROUP_PROJECT_DISCOVERY' THEN 'areas'
               WHEN 'users' THEN 'user'
               WHEN 'issues' THEN 'issue'
               WHEN 'mergeRequests' THEN 'merge_request'
               WHEN 'commits' THEN 'commit'
               WHEN 'branches' THEN 'branch'
               WHEN 'pipelines' THEN 'pipeline'
               ELSE job.command::text
           END AS "entityType",
           COALESCE(area.gitlab_id, entry.data ->> 'entity_id', job.full_path) AS "entityId",
           substring(job."gitlabGraphQLUrl" FROM '^[a-z]+://[^/]+') AS "gitlabUrl",
           job.resume_state,
           jsonb_path_query_array(assignment.discoveries, '$[*].timestamp') AS discoveries,
           assignment.account_id
      FROM socket_connection connection
           CROSS JOIN LATERAL jsonb_array_elements_text(connection.active_jobs) AS seat(crawler_job_id)
      JOIN job_assignment_mapping assignment ON assignment.crawler_job_id = seat.crawler_job_id COLLATE "C"
      JOIN job ON job.id = assignment.web_app_job_id
      LEFT JOIN job_queue entry ON entry.web_app_job_id = assignment.web_app_job_id
      LEFT JOIN area ON area.full_path = job.full_path
     WHERE assignment.status IN ('assigned', 'running');
"""


def upgrade() -> None:
    op.execute(ATTEMPTS)
    op.execute(LANES)
    op.execute(CRAWLER_ORDER)
