"""Databases older than Crawlyard: a web app's own tables, and those of an older component."""

from persistence.schema.commands import Command
from persistence.schema.states import JobStatus

ITS_TABLES = (
    "user",
    "account",
    "area",
    "area_authorization",
    "job",
    "job_area",
    "team",
    "drizzle_migrations",
)

WEB_APP = f"""
    CREATE TYPE job_status AS ENUM ({", ".join(f"'{status}'" for status in JobStatus)});
    CREATE TYPE crawl_command AS ENUM ({", ".join(f"'{command}'" for command in Command)});
    CREATE TYPE token_provider AS ENUM ('gitlab-onprem', 'gitlab-cloud', 'jiralocal', 'jiracloud');
    CREATE TYPE area_type AS ENUM ('group', 'project');
    CREATE TABLE drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint);
    CREATE TABLE team (id varchar(26) PRIMARY KEY, name varchar(80) NOT NULL);
    CREATE TABLE "user" (
        id varchar(26) CONSTRAINT pk_user PRIMARY KEY, name varchar(255) NOT NULL, email varchar(255) NOT NULL,
        email_verified boolean NOT NULL DEFAULT false, image text, created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(), role varchar(20), banned boolean, ban_reason text,
        ban_expires timestamptz, theme varchar(20) NOT NULL DEFAULT 'dark', CONSTRAINT uq_mail UNIQUE (email));
    CREATE TABLE account (
        id varchar(26) CONSTRAINT pk_account PRIMARY KEY, account_id varchar(255) NOT NULL,
        provider_id token_provider NOT NULL, user_id varchar(26) NOT NULL
            CONSTRAINT account_of_user REFERENCES "user" ON DELETE CASCADE ON UPDATE CASCADE,
        access_token text, refresh_token text, id_token text, access_token_expires_at timestamptz,
        refresh_token_expires_at timestamptz, scope text, password text, created_at timestamptz DEFAULT now(),
        updated_at timestamptz DEFAULT now());
    CREATE TABLE area (
        full_path varchar(1024) CONSTRAINT pk_area PRIMARY KEY,
        gitlab_id varchar(255) NOT NULL CONSTRAINT uq_gid UNIQUE, name varchar(255),
        type area_type NOT NULL, created_at timestamptz DEFAULT now(), stars integer DEFAULT 0);
    CREATE TABLE area_authorization (
        "accountId" varchar(26) REFERENCES account ON DELETE CASCADE, area_id varchar(1024) REFERENCES area,
        CONSTRAINT pk_authorization PRIMARY KEY ("accountId", area_id));
    CREATE TABLE job (
        id varchar(26) CONSTRAINT pk_job PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz, finished_at timestamptz, status job_status NOT NULL DEFAULT 'queued',
        command crawl_command NOT NULL DEFAULT 'authorizationScope', full_path varchar(1024), branch varchar(255),
        "from" timestamptz, "to" timestamptz, "accountId" varchar(26) NOT NULL CONSTRAINT job_of_account
            REFERENCES account ON DELETE CASCADE,
        spawned_from varchar(26), resume_state jsonb, progress jsonb, "userId" varchar(26) REFERENCES "user",
        provider token_provider, "gitlabGraphQLUrl" varchar(255), "updatedAt" timestamptz,
        team_id varchar(26) REFERENCES team, label varchar(40) NOT NULL DEFAULT 'none');
    CREATE UNIQUE INDEX uq_job ON job (full_path, branch, command) WHERE command <> 'authorizationScope';
    CREATE INDEX ix_job_status ON job (status);
    CREATE TABLE job_area (
        "jobId" varchar(26) REFERENCES job ON DELETE CASCADE, full_path varchar(1024) REFERENCES area ON DELETE CASCADE,
        CONSTRAINT pk_job_area PRIMARY KEY ("jobId", full_path));
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW."updatedAt" := now(); RETURN NEW; END';
    CREATE TRIGGER job_touched BEFORE UPDATE ON job FOR EACH ROW EXECUTE FUNCTION touch();
    INSERT INTO team VALUES ('team', 'A team');
    INSERT INTO "user" (id, name, email) VALUES ('ann', 'Ann', 'ann@example.org');
    INSERT INTO account (id, account_id, provider_id, user_id, access_token)
        VALUES ('acc', '7', 'gitlab-cloud', 'ann', 'glpat-abcdefghij0123456789');
    INSERT INTO area (full_path, gitlab_id, type) VALUES ('old/area', 'gid://gitlab/Group/1', 'group');
    INSERT INTO area_authorization VALUES ('acc', 'old/area');
    INSERT INTO job (id, created_at, status, command, full_path, "accountId", team_id, "gitlabGraphQLUrl")
        SELECT 'old-' || status, now() - interval '1 day', status, 'group', 'old/' || status, 'acc', 'team',
               'https://gitlab.example.org/api/graphql'
          FROM unnest(ARRAY['queued', 'running', 'finished', 'failed']::job_status[]) status;
    INSERT INTO job_area SELECT id, 'old/area' FROM job;
"""
"""The tables of a web app with its own ORM and enums, with four jobs of a day ago."""

OLDER_COMPONENT = """
    CREATE TYPE entry_status AS ENUM ('pending', 'processing', 'completed', 'failed');
    CREATE TYPE attempt_status AS ENUM ('pending', 'assigned', 'running', 'completed', 'failed', 'cancelled');
    CREATE TYPE crawler_status AS ENUM ('idle', 'discovering', 'crawling', 'error');
    CREATE TABLE socket_connection (
        id varchar(26) PRIMARY KEY, crawler_id text, connected_at timestamptz, last_heartbeat timestamptz,
        is_active boolean DEFAULT true, active_jobs jsonb DEFAULT '[]', system_status crawler_status DEFAULT 'idle',
        metadata jsonb);
    CREATE TABLE job_queue (
        id varchar(26) PRIMARY KEY, web_app_job_id varchar(26) NOT NULL REFERENCES job ON DELETE CASCADE,
        priority integer DEFAULT 1, scheduled_at timestamptz, attempts integer DEFAULT 0,
        max_attempts integer DEFAULT 3, data jsonb, status entry_status DEFAULT 'pending', error text,
        last_attempt_at timestamptz);
    CREATE TABLE job_assignment_mapping (
        id varchar(26) PRIMARY KEY, web_app_job_id varchar(26) NOT NULL REFERENCES job ON DELETE CASCADE,
        crawler_job_id text, account_id varchar(26) REFERENCES account, user_id varchar(26), created_at timestamptz,
        assigned_at timestamptz, completed_at timestamptz, status attempt_status DEFAULT 'pending', metadata jsonb,
        socket_id varchar(26) REFERENCES socket_connection);
    CREATE TABLE job_error_log (
        id varchar(26) PRIMARY KEY, job_id varchar(26) NOT NULL REFERENCES job ON DELETE CASCADE, timestamp timestamptz,
        error_type text, error_message text, stack_trace text, context jsonb, retry_count integer,
        is_recoverable boolean DEFAULT true, resolution text);
    CREATE INDEX job_queue_claim_idx ON job_queue (status);
    INSERT INTO socket_connection (id, crawler_id, connected_at, last_heartbeat, system_status)
        VALUES ('socket', 'crawler-1', now() - interval '1 hour', now(), 'crawling');
    INSERT INTO job_queue (id, web_app_job_id, priority, scheduled_at, attempts, data, status) VALUES
        ('q1', 'old-queued', 1, now() - interval '2 hours', 0, NULL, 'failed'),
        ('q2', 'old-queued', 7, now() - interval '1 hour', 2,
         '{"entity_id": "7", "access_token": "glpat-abcdefghij0123456789"}', 'pending'),
        ('q3', 'old-running', 1, now(), 1, '[]', 'processing'),
        ('q4', 'old-finished', 1, now(), 1, NULL, 'completed');
    INSERT INTO job_assignment_mapping (id, web_app_job_id, crawler_job_id, account_id, created_at, status, socket_id)
        VALUES ('a1', 'old-running', 'group_1', 'acc', now() - interval '2 hours', 'failed', 'socket'),
               ('a2', 'old-running', 'group_1', 'acc', now() - interval '1 hour', 'running', 'socket'),
               ('a3', 'old-finished', 'group_2', 'acc', now(), 'completed', NULL),
               ('a4', 'old-queued', NULL, 'acc', now() - interval '1 hour', 'pending', NULL),
               ('a5', 'old-queued', NULL, 'acc', now(), 'assigned', 'socket');
    INSERT INTO job_error_log (id, job_id, error_message) VALUES ('e1', 'old-failed', 'it broke');
"""
"""The four tables of the older component: one index is named like ours, and every key has duplicates."""

OLDER = """
    INSERT INTO account (id) VALUES ('a');
    INSERT INTO job (id, "accountId", command, full_path, status, created_at)
    SELECT status || n, 'a', 'issues', status || n, status, now() - interval '1 day'
      FROM unnest(ARRAY['queued', 'paused', 'finished']) status, generate_series(1, 2) n;
    INSERT INTO job_queue (id, web_app_job_id, account_id, held)
    SELECT id, id, 'a', true FROM job WHERE status <> 'finished';
    INSERT INTO job (id, "accountId", command, full_path) VALUES ('ours', 'a', 'issues', 'ours');
    INSERT INTO job_queue (id, web_app_job_id, account_id, held) VALUES ('ours', 'ours', 'a', true);
    UPDATE adoption SET adopted_from = now() - interval '1 hour';
"""
"""Jobs that are left alone until they are adopted, two of them in an older queue, and one job of ours."""
