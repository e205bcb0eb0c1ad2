"""
Tables for discovery, credentials, pausing, the error log, retention, statistics and readers of events.

Only our tables change. Entries copy `spawned_from` of their jobs, because the web app's table has no index for it.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

CHANGES = """
    ALTER TABLE job_queue ADD COLUMN spawned_from TEXT, ADD COLUMN kept_at TIMESTAMP WITH TIME ZONE;
    UPDATE job_queue q SET spawned_from = job.spawned_from
      FROM job WHERE job.id = q.web_app_job_id AND job.spawned_from IS NOT NULL;
    CREATE INDEX job_queue_spawned_from_idx ON job_queue (spawned_from, settled_at) WHERE spawned_from IS NOT NULL;
    CREATE INDEX job_queue_held_idx ON job_queue (account_id, id) WHERE held;
    DROP INDEX job_queue_settled_at_idx;
    CREATE INDEX job_queue_settled_at_idx ON job_queue (GREATEST(kept_at, settled_at)) WHERE settled_at IS NOT NULL;

    ALTER TABLE job_error_log ADD COLUMN fingerprint TEXT COLLATE "C";
    CREATE INDEX job_error_log_fingerprint_idx ON job_error_log (fingerprint, timestamp);

    ALTER TABLE account_lane ADD COLUMN held_token TEXT, ADD COLUMN renewed_at TIMESTAMP WITH TIME ZONE,
                             ADD COLUMN paused_at TIMESTAMP WITH TIME ZONE,
                             ADD COLUMN paused_reason TEXT;
"""

ADDED = """
    CREATE TABLE credential_refresh (
        account_id TEXT NOT NULL,
        token_hash TEXT COLLATE "C" NOT NULL,
        claimed_by TEXT NOT NULL,
        started_at TIMESTAMP WITH TIME ZONE NOT NULL,
        ended_at TIMESTAMP WITH TIME ZONE,
        outcome TEXT,
        CONSTRAINT credential_refresh_pkey PRIMARY KEY (account_id, token_hash),
        CONSTRAINT credential_refresh_ended_check CHECK ((ended_at IS NULL) = (outcome IS NULL))
    );
    CREATE INDEX credential_refresh_started_at_idx ON credential_refresh (started_at);

    CREATE TABLE deferred_job (
        id TEXT COLLATE "C" NOT NULL,
        account_id TEXT NOT NULL,
        user_id TEXT,
        provider TEXT,
        graphql_url TEXT,
        command TEXT NOT NULL,
        full_path TEXT NOT NULL,
        priority INTEGER NOT NULL,
        entity_id TEXT,
        spawned_from TEXT NOT NULL,
        deferred_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT deferred_job_pkey PRIMARY KEY (id)
    );
    CREATE UNIQUE INDEX deferred_job_identity_key ON deferred_job (COALESCE(graphql_url, ''), full_path, command);
    CREATE INDEX deferred_job_account_id_idx ON deferred_job (account_id, id);
    CREATE INDEX deferred_job_spawned_from_idx ON deferred_job (spawned_from);

    CREATE TABLE area_host (
        full_path TEXT NOT NULL,
        host TEXT NOT NULL,
        CONSTRAINT area_host_pkey PRIMARY KEY (full_path)
    );

    CREATE TABLE area_change (
        id TEXT COLLATE "C" NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        full_path TEXT NOT NULL,
        gitlab_id TEXT NOT NULL,
        former_path TEXT,
        former_gitlab_id TEXT,
        account_id TEXT NOT NULL,
        job_id TEXT NOT NULL,
        CONSTRAINT area_change_pkey PRIMARY KEY (id),
        CONSTRAINT area_change_changed_check CHECK (num_nonnulls(former_path, former_gitlab_id) > 0)
    );

    CREATE TABLE event_edge (
        id BOOLEAN DEFAULT true NOT NULL,
        trimmed_xid xid8 DEFAULT '0' NOT NULL,
        trimmed_id BIGINT DEFAULT 0 NOT NULL,
        CONSTRAINT event_edge_pkey PRIMARY KEY (id),
        CONSTRAINT event_edge_one_row_check CHECK (id)
    );
    INSERT INTO event_edge DEFAULT VALUES;

    CREATE TABLE statistic (
        name TEXT NOT NULL,
        value JSONB NOT NULL,
        taken_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT statistic_pkey PRIMARY KEY (name)
    );
"""


def upgrade() -> None:
    op.execute(CHANGES)
    op.execute(ADDED)
