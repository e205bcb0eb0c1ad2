"""
Makes rounds and frames cheap, even under an old snapshot that stays open.

An attempt is live while it has no completed_at, so that starting a job and its progress change no index. Live
attempts are counted as they begin and end, and each account stores a lower bound for its oldest waiting entry.
"""

from alembic import op

from persistence.migrations.views import create_view

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


def upgrade() -> None:
    op.execute(ATTEMPTS)
    op.execute(LANES)
    create_view("crawler_order", revision)
