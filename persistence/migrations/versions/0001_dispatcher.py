"""
The first schema: our tables, and those of the web app's that are missing.

Existing tables of the web app are not changed. Tables that an older component left are copied into ours (`older`).
"""

from alembic import op

from persistence.migrations import older
from persistence.migrations.placement import read_placement

revision = "0001"
down_revision = None

SHARED = {
    "user": """
        CREATE TABLE "user" (
            id TEXT NOT NULL,
            name TEXT,
            email TEXT,
            email_verified BOOLEAN DEFAULT false,
            image TEXT,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT now(),
            updated_at TIMESTAMP WITH TIME ZONE DEFAULT now(),
            role TEXT,
            banned BOOLEAN,
            ban_reason TEXT,
            ban_expires TIMESTAMP WITH TIME ZONE,
            CONSTRAINT user_pkey PRIMARY KEY (id),
            CONSTRAINT user_email_key UNIQUE (email)
        );
    """,
    "account": """
        CREATE TABLE account (
            id TEXT NOT NULL,
            account_id TEXT,
            provider_id TEXT,
            user_id TEXT,
            access_token TEXT,
            refresh_token TEXT,
            id_token TEXT,
            access_token_expires_at TIMESTAMP WITH TIME ZONE,
            refresh_token_expires_at TIMESTAMP WITH TIME ZONE,
            scope TEXT,
            password TEXT,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT now(),
            updated_at TIMESTAMP WITH TIME ZONE DEFAULT now(),
            CONSTRAINT account_pkey PRIMARY KEY (id),
            CONSTRAINT account_user_id_fkey FOREIGN KEY(user_id) REFERENCES "user" (id) ON DELETE CASCADE
        );
    """,
    "area": """
        CREATE TABLE area (
            full_path TEXT NOT NULL,
            gitlab_id TEXT NOT NULL,
            name TEXT,
            type TEXT NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT now(),
            CONSTRAINT area_pkey PRIMARY KEY (full_path),
            CONSTRAINT area_gitlab_id_key UNIQUE (gitlab_id)
        );
    """,
    "area_authorization": """
        CREATE TABLE area_authorization (
            "accountId" TEXT NOT NULL,
            area_id TEXT NOT NULL,
            CONSTRAINT area_authorization_pkey PRIMARY KEY ("accountId", area_id),
            CONSTRAINT "area_authorization_accountId_fkey" FOREIGN KEY("accountId") REFERENCES account (id),
            CONSTRAINT area_authorization_area_id_fkey FOREIGN KEY(area_id) REFERENCES area (full_path)
        );
    """,
    "job": """
        CREATE TABLE job (
            id TEXT NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            started_at TIMESTAMP WITH TIME ZONE,
            finished_at TIMESTAMP WITH TIME ZONE,
            status TEXT DEFAULT 'queued' NOT NULL,
            command TEXT DEFAULT 'authorizationScope' NOT NULL,
            full_path TEXT,
            branch TEXT,
            "from" TIMESTAMP WITH TIME ZONE,
            "to" TIMESTAMP WITH TIME ZONE,
            "accountId" TEXT NOT NULL,
            spawned_from TEXT,
            resume_state JSONB,
            progress JSONB,
            "userId" TEXT,
            provider TEXT,
            "gitlabGraphQLUrl" TEXT,
            "updatedAt" TIMESTAMP WITH TIME ZONE,
            CONSTRAINT job_pkey PRIMARY KEY (id),
            CONSTRAINT "job_accountId_fkey" FOREIGN KEY("accountId") REFERENCES account (id),
            CONSTRAINT "job_userId_fkey" FOREIGN KEY("userId") REFERENCES "user" (id)
        );
        CREATE INDEX job_branch_idx ON job (branch);
        CREATE UNIQUE INDEX "job_command_accountId_key" ON job (command, "accountId") WHERE command = 'authorizationScope' AND full_path IS NULL AND branch IS NULL;
        CREATE INDEX job_created_at_idx ON job (created_at);
        CREATE INDEX job_from_idx ON job ("from");
        CREATE UNIQUE INDEX job_full_path_branch_command_key ON job (full_path, branch, command) WHERE command <> 'authorizationScope';
        CREATE INDEX job_full_path_branch_idx ON job (full_path, branch);
        CREATE INDEX job_full_path_command_idx ON job (full_path, command);
        CREATE INDEX job_full_path_from_idx ON job (full_path, "from");
        CREATE INDEX job_full_path_status_idx ON job (full_path, status);
        CREATE INDEX job_full_path_to_idx ON job (full_path, "to");
        CREATE INDEX job_status_idx ON job (status);
        CREATE INDEX job_to_idx ON job ("to");
    """,
    "job_area": """
        CREATE TABLE job_area (
            "jobId" TEXT NOT NULL,
            full_path TEXT NOT NULL,
            CONSTRAINT job_area_pkey PRIMARY KEY ("jobId", full_path),
            CONSTRAINT "job_area_jobId_fkey" FOREIGN KEY("jobId") REFERENCES job (id) ON DELETE CASCADE,
            CONSTRAINT job_area_full_path_fkey FOREIGN KEY(full_path) REFERENCES area (full_path) ON DELETE CASCADE
        );
    """,
}
"""The web app's tables, in the order of their foreign keys. Each is created only if it is missing."""

OURS = {
    "socket_connection": """
        CREATE TABLE socket_connection (
            id TEXT COLLATE "C" NOT NULL,
            crawler_id TEXT,
            connected_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            last_heartbeat TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            is_active BOOLEAN DEFAULT true NOT NULL,
            active_jobs JSONB DEFAULT '[]' NOT NULL,
            system_status TEXT DEFAULT 'idle' NOT NULL,
            metadata JSONB,
            capacity INTEGER DEFAULT 5 NOT NULL,
            reported INTEGER DEFAULT 0 NOT NULL,
            reported_jobs JSONB,
            reported_at TIMESTAMP WITH TIME ZONE,
            goodbye_at TIMESTAMP WITH TIME ZONE,
            closed_at TIMESTAMP WITH TIME ZONE,
            CONSTRAINT socket_connection_pkey PRIMARY KEY (id),
            CONSTRAINT socket_connection_closed_check CHECK (is_active = (closed_at IS NULL))) WITH (fillfactor = 50);
        CREATE INDEX socket_connection_active_idx ON socket_connection (id) WHERE is_active;
        CREATE INDEX socket_connection_closed_at_idx ON socket_connection (closed_at) WHERE NOT is_active;
    """,
    "job_queue": """
        CREATE TABLE job_queue (
            id TEXT COLLATE "C" NOT NULL,
            web_app_job_id TEXT NOT NULL,
            priority INTEGER DEFAULT 1 NOT NULL,
            scheduled_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            attempts INTEGER DEFAULT 0 NOT NULL,
            max_attempts INTEGER DEFAULT 3 NOT NULL,
            data JSONB,
            status TEXT DEFAULT 'pending' NOT NULL,
            error TEXT,
            last_attempt_at TIMESTAMP WITH TIME ZONE,
            account_id TEXT NOT NULL,
            host TEXT DEFAULT '' NOT NULL,
            ready BOOLEAN DEFAULT true NOT NULL,
            held BOOLEAN DEFAULT false NOT NULL,
            losses INTEGER DEFAULT 0 NOT NULL,
            goodbyes INTEGER DEFAULT 0 NOT NULL,
            identity TEXT,
            settled_at TIMESTAMP WITH TIME ZONE,
            CONSTRAINT job_queue_pkey PRIMARY KEY (id),
            CONSTRAINT job_queue_settled_check CHECK ((status IN ('completed', 'failed')) = (settled_at IS NOT NULL)),
            CONSTRAINT job_queue_web_app_job_id_key UNIQUE (web_app_job_id),
            CONSTRAINT job_queue_web_app_job_id_fkey FOREIGN KEY(web_app_job_id) REFERENCES job (id) ON DELETE CASCADE) WITH (fillfactor = 80);
        CREATE INDEX job_queue_claim_idx ON job_queue (account_id, host, priority DESC, scheduled_at, id) WHERE status = 'pending' AND ready AND NOT held;
        CREATE INDEX job_queue_due_idx ON job_queue (scheduled_at) WHERE status = 'pending' AND NOT ready;
        CREATE UNIQUE INDEX job_queue_identity_key ON job_queue (identity) WHERE identity IS NOT NULL;
        CREATE INDEX job_queue_suspect_idx ON job_queue (web_app_job_id) WHERE status = 'processing' AND losses >= 2;
        CREATE INDEX job_queue_settled_at_idx ON job_queue (settled_at) WHERE status = 'completed';
    """,
    "job_assignment_mapping": """
        CREATE TABLE job_assignment_mapping (
            id TEXT COLLATE "C" NOT NULL,
            web_app_job_id TEXT NOT NULL,
            crawler_job_id TEXT COLLATE "C" NOT NULL,
            account_id TEXT,
            user_id TEXT,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            assigned_at TIMESTAMP WITH TIME ZONE,
            completed_at TIMESTAMP WITH TIME ZONE,
            status TEXT DEFAULT 'assigned' NOT NULL,
            metadata JSONB,
            connection_id TEXT COLLATE "C",
            host TEXT DEFAULT '' NOT NULL,
            progressed_at TIMESTAMP WITH TIME ZONE,
            absent_since TIMESTAMP WITH TIME ZONE,
            stale_words INTEGER DEFAULT 0 NOT NULL,
            discoveries JSONB DEFAULT '[]' NOT NULL,
            CONSTRAINT job_assignment_mapping_pkey PRIMARY KEY (id),
            CONSTRAINT job_assignment_mapping_closed_check CHECK ((status IN ('assigned', 'running')) = (completed_at IS NULL)),
            CONSTRAINT job_assignment_mapping_web_app_job_id_fkey FOREIGN KEY(web_app_job_id) REFERENCES job (id) ON DELETE CASCADE,
            CONSTRAINT job_assignment_mapping_crawler_job_id_key UNIQUE (crawler_job_id)) WITH (fillfactor = 80);
        CREATE INDEX job_assignment_mapping_live_account_idx ON job_assignment_mapping (account_id, host) WHERE status IN ('assigned', 'running');
        CREATE INDEX job_assignment_mapping_live_connection_idx ON job_assignment_mapping (connection_id) WHERE status IN ('assigned', 'running');
        CREATE UNIQUE INDEX job_assignment_mapping_live_key ON job_assignment_mapping (web_app_job_id) WHERE status IN ('assigned', 'running');
        CREATE INDEX job_assignment_mapping_web_app_job_id_idx ON job_assignment_mapping (web_app_job_id);
    """,
    "job_error_log": """
        CREATE TABLE job_error_log (
            id TEXT COLLATE "C" NOT NULL,
            job_id TEXT NOT NULL,
            timestamp TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            error_type TEXT NOT NULL,
            error_message TEXT NOT NULL,
            stack_trace TEXT,
            context JSONB,
            retry_count INTEGER DEFAULT 0 NOT NULL,
            is_recoverable BOOLEAN DEFAULT true NOT NULL,
            resolution TEXT,
            CONSTRAINT job_error_log_pkey PRIMARY KEY (id),
            CONSTRAINT job_error_log_job_id_fkey FOREIGN KEY(job_id) REFERENCES job (id) ON DELETE CASCADE
        );
        CREATE INDEX job_error_log_job_id_timestamp_idx ON job_error_log (job_id, timestamp);
        CREATE INDEX job_error_log_timestamp_idx ON job_error_log (timestamp);
    """,
    "account_lane": """
        CREATE TABLE account_lane (
            account_id TEXT NOT NULL,
            last_seated_at TIMESTAMP WITH TIME ZONE,
            held_at TIMESTAMP WITH TIME ZONE,
            held_reason TEXT,
            CONSTRAINT account_lane_pkey PRIMARY KEY (account_id)
        );
    """,
    "adoption": """
        CREATE TABLE adoption (
            id BOOLEAN DEFAULT true NOT NULL,
            adopted_from TIMESTAMP WITH TIME ZONE,
            CONSTRAINT adoption_pkey PRIMARY KEY (id),
            CONSTRAINT adoption_one_row_check CHECK (id)
        );
    """,
    "dispatch_event": """
        CREATE TABLE dispatch_event (
            xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
            id BIGINT GENERATED ALWAYS AS IDENTITY,
            type TEXT NOT NULL,
            job_id TEXT,
            account_id TEXT,
            connection_id TEXT,
            payload JSONB DEFAULT '{}' NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            CONSTRAINT dispatch_event_pkey PRIMARY KEY (xid, id)
        );
    """,
    "handled_message": """
        CREATE TABLE handled_message (
            message_id TEXT COLLATE "C" NOT NULL,
            handled_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            CONSTRAINT handled_message_pkey PRIMARY KEY (message_id)
        );
        CREATE INDEX handled_message_handled_at_idx ON handled_message (handled_at);
    """,
    "liveness_state": """
        CREATE TABLE liveness_state (
            id BOOLEAN DEFAULT true NOT NULL,
            last_sweep_at TIMESTAMP WITH TIME ZONE,
            grace_until TIMESTAMP WITH TIME ZONE,
            mass_waited_at TIMESTAMP WITH TIME ZONE,
            mass_as_of TIMESTAMP WITH TIME ZONE,
            CONSTRAINT liveness_state_pkey PRIMARY KEY (id),
            CONSTRAINT liveness_state_one_row_check CHECK (id)
        );
    """,
    "periodic_ring": """
        CREATE TABLE periodic_ring (
            task TEXT NOT NULL,
            rung_at TIMESTAMP WITH TIME ZONE NOT NULL,
            CONSTRAINT periodic_ring_pkey PRIMARY KEY (task)
        );
    """,
    "rejected_message": """
        CREATE TABLE rejected_message (
            id TEXT COLLATE "C" NOT NULL,
            rejected_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            task TEXT,
            message_id TEXT,
            reason TEXT NOT NULL,
            detail TEXT NOT NULL,
            payload JSONB,
            CONSTRAINT rejected_message_pkey PRIMARY KEY (id)
        );
        CREATE INDEX rejected_message_rejected_at_idx ON rejected_message (rejected_at);
    """,
}
"""Our tables."""


FIRST_ROWS = """
    CREATE SEQUENCE assign_bell;
    INSERT INTO liveness_state DEFAULT VALUES;
    INSERT INTO adoption (adopted_from) SELECT now() WHERE EXISTS (SELECT FROM job);
    INSERT INTO adoption DEFAULT VALUES ON CONFLICT DO NOTHING;
"""


def upgrade() -> None:
    present = read_placement(op.get_bind()).schemas.keys()
    for name, statements in SHARED.items():
        if name not in present:
            op.execute(statements)
    with older.carried_over(op.get_bind(), present & OURS.keys()):
        for statements in OURS.values():
            op.execute(statements)
    op.execute(FIRST_ROWS)
