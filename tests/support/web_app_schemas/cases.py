"""Schemas of web apps, one line a schema: a file or the tables of ours, what is different there, and what follows."""

from importlib import import_module
from pathlib import Path
from typing import NamedTuple

UTC = {"CRAWLYARD_TIMESTAMPS": "utc"}


class Case(NamedTuple):
    """A schema, and the words of the refusal, if it is refused; then it works once it was repaired."""

    name: str
    tables: str
    """A file beside this one, or `agreed`, the tables that Crawlyard would make."""
    change: str = ""
    refused: str = ""
    settings: dict[str, str] = {}  # noqa: RUF012 - nobody changes it
    afterwards: str = ""
    """What the web app writes once its tables were repaired."""

    @property
    def statements(self) -> str:
        """What makes the tables, with an account `acc` of the user `ann`."""
        if self.tables == "agreed":
            shared = import_module("persistence.migrations.versions.0001_dispatcher").SHARED
            tables = "".join(shared.values()) + _ROWS
        else:
            tables = Path(__file__).with_name(f"{self.tables}.sql").read_text("utf-8")
        return f"{tables};{self.change}"


_ROWS = """
    INSERT INTO "user" (id, name) VALUES ('ann', 'Ann');
    INSERT INTO account (id, provider_id, user_id, access_token)
        VALUES ('acc', 'gitlab-onprem', 'ann', 'glpat-abcdefghij0123456789');
"""


AT_WORK = [
    Case("as agreed", "agreed"),
    Case("Drizzle, in UTC", "drizzle", settings=UTC),
    Case("Drizzle with timezones", "drizzle", """
        SET TimeZone = 'UTC';
        ALTER TABLE job ALTER created_at TYPE timestamptz, ALTER started_at TYPE timestamptz,
            ALTER finished_at TYPE timestamptz, ALTER "updatedAt" TYPE timestamptz;
        ALTER TABLE account ALTER access_token_expires_at TYPE timestamptz, ALTER updated_at TYPE timestamptz,
            ALTER refresh_token_expires_at TYPE timestamptz
    """),
    Case("Prisma, in UTC", "prisma", settings={"CRAWLYARD_TIMESTAMPS": "UTC"}),
    Case("Rails, repaired", "rails", refused="job.id, .* are bigint, not text", settings=UTC, afterwards="""
        DELETE FROM area;
        INSERT INTO "user" (id, created_at, updated_at) VALUES ('ann', now(), now());
        INSERT INTO account (id, user_id, access_token, created_at, updated_at)
            VALUES ('acc', 'ann', 'glpat-abcdefghij0123456789', now(), now())
    """),
    Case("varchar, long enough, and CHECKs that know all words", "agreed", """
        ALTER TABLE job_area ALTER "jobId" TYPE varchar(26), ALTER full_path TYPE varchar(1024);
        ALTER TABLE area_authorization ALTER area_id TYPE varchar(1024);
        ALTER TABLE area ALTER full_path TYPE varchar(1024), ALTER gitlab_id TYPE varchar(255),
            ADD CHECK (type IN ('group', 'project', 'a:b'));
        ALTER TABLE account ALTER access_token TYPE varchar(255), ALTER provider_id TYPE varchar(20);
        ALTER TABLE job ALTER id TYPE varchar(26), ALTER status TYPE varchar(30), ALTER command TYPE varchar(50),
            ALTER full_path TYPE varchar(1024), ADD CHECK (length(status) < 27),
            ADD CHECK (command <> 'x' OR branch = 'y'), ADD CHECK ("updatedAt" >= created_at),
            ADD CHECK (status <> 'finished' OR finished_at IS NOT NULL), ADD CHECK (id <> status),
            ADD CHECK (status <> 'running' OR started_at IS NOT NULL AND finished_at IS NULL),
            ADD CHECK (1 / extract(epoch FROM created_at - '2026-05-04T01:00:00Z') < 9 OR status = 'x')
    """),
    Case("enums for all words", "agreed", """
        CREATE TYPE kind AS ENUM ('project', 'group');
        CREATE TYPE provider AS ENUM ('gitlab-onprem', 'gitlab-cloud', 'jiralocal', 'jiracloud');
        ALTER TABLE area ALTER type TYPE kind USING type::kind;
        ALTER TABLE account ALTER provider_id TYPE provider USING provider_id::provider;
        ALTER TABLE job ALTER provider TYPE provider USING provider::provider
    """),
    Case("defaults, a key and unused types of its own", "agreed", """
        ALTER TABLE job ALTER progress SET DEFAULT '{}', ALTER progress SET NOT NULL,
            ALTER resume_state SET DEFAULT '{}', ALTER "updatedAt" SET NOT NULL, ALTER status DROP DEFAULT,
            ADD COLUMN retries integer NOT NULL DEFAULT 0, ALTER "from" TYPE date, ALTER "to" TYPE timestamp;
        ALTER TABLE area ALTER created_at SET NOT NULL, ALTER name SET NOT NULL;
        ALTER TABLE job_area DROP CONSTRAINT job_area_pkey, ADD COLUMN id bigserial PRIMARY KEY,
            ADD UNIQUE ("jobId", full_path);
        ALTER TABLE "user" ALTER created_at TYPE timestamp, ALTER ban_expires TYPE date, ALTER role TYPE varchar(5)
    """),
]  # fmt: skip

REFUSED = [
    Case("Drizzle", "drizzle", refused=r"account.access_token_expires_at, .*job.created_at.* are timestamp without"),
    Case("Prisma", "prisma", refused="job.updatedAt are timestamp without time zone"),
    Case("Rails", "rails", refused="account.id, .*job.id.* are bigint, not text"),
    Case("Rails, in UTC", "rails", settings=UTC, refused="area.updated_at are NOT NULL without a default"),
    Case("json", "agreed", "ALTER TABLE job ALTER progress TYPE json", "job.progress is json, not jsonb"),
    Case("text for jsonb", "agreed", "ALTER TABLE job ALTER resume_state TYPE text", "resume_state is text, not jsonb"),
    Case("uuid ids", "agreed", """
        ALTER TABLE job_area DROP CONSTRAINT "job_area_jobId_fkey", ALTER "jobId" TYPE uuid USING "jobId"::uuid;
        ALTER TABLE job ALTER id TYPE uuid USING id::uuid, ALTER id SET DEFAULT gen_random_uuid();
        ALTER TABLE job_area ADD CONSTRAINT "of job" FOREIGN KEY ("jobId") REFERENCES job ON DELETE CASCADE
    """, "job.id, job_area.jobId are uuid, not text"),
    Case("uuid users", "agreed", """
        ALTER TABLE account DROP CONSTRAINT account_user_id_fkey, ALTER user_id TYPE uuid USING NULL;
        ALTER TABLE job DROP CONSTRAINT "job_userId_fkey", ALTER "userId" TYPE uuid USING NULL;
        DELETE FROM "user"; ALTER TABLE "user" ALTER id TYPE uuid USING id::uuid;
        ALTER TABLE account ADD FOREIGN KEY (user_id) REFERENCES "user" ON DELETE CASCADE;
        ALTER TABLE job ADD FOREIGN KEY ("userId") REFERENCES "user"
    """, "job.userId, user.id are uuid, not text"),
    Case("identity ids", "agreed", """
        ALTER TABLE job_area DROP CONSTRAINT "job_area_jobId_fkey", ALTER "jobId" TYPE bigint USING "jobId"::bigint;
        ALTER TABLE job ALTER id TYPE bigint USING id::bigint, ALTER id ADD GENERATED ALWAYS AS IDENTITY
    """, "job.id, job_area.jobId are bigint, not text"),
    Case("bare GitLab ids", "agreed", "ALTER TABLE area ALTER gitlab_id TYPE integer USING 1",
         "area.gitlab_id is integer, not text"),
    Case("char(26)", "agreed", "ALTER TABLE job ALTER id TYPE char(26)", r"job.id is character\(26\), not text"),
    Case("short ids", "agreed", "ALTER TABLE job ALTER id TYPE varchar(24)", r"job.id is too short as .*\(24\)"),
    Case("short words", "agreed", "ALTER TABLE job ALTER status TYPE varchar(20)", "status is .* short .*: it needs"),
    Case("short tokens", "agreed", "ALTER TABLE account ALTER access_token TYPE varchar(64)", "token is .* short"),
    Case("status as a number", "agreed", """
        ALTER TABLE job ALTER status DROP DEFAULT, ALTER status TYPE integer USING 0
    """, "job.status is integer, not text or an enum"),
    Case("an enum without what we add", "agreed", """
        CREATE TYPE status AS ENUM ('queued', 'running', 'paused', 'failed', 'finished', 'credential_expired',
            'waiting_credential_renewal', 'credential_renewed');
        ALTER TABLE job ALTER status DROP DEFAULT, ALTER status TYPE status USING status::status
    """, "job.status is an enum without 'cancelled'"),
    Case("an enum of few commands", "agreed", """
        CREATE TYPE command AS ENUM ('authorizationScope', 'GROUP_PROJECT_DISCOVERY', 'group', 'project');
        DROP INDEX job_full_path_branch_command_key, "job_command_accountId_key";
        ALTER TABLE job ALTER command DROP DEFAULT, ALTER command TYPE command USING command::command
    """, "job.command is an enum without 'branches', 'groupIssues'"),
    Case("an enum without projects", "agreed", """
        CREATE TYPE kind AS ENUM ('group', 'repository'); ALTER TABLE area ALTER type TYPE kind USING type::kind
    """, "area.type is an enum without 'project'"),
    Case("a CHECK without what we add", "agreed", "ALTER TABLE job ADD CONSTRAINT known CHECK (status <> 'cancelled')",
         "job.status has the constraint known, which refuses 'cancelled'"),
    Case("a CHECK of several columns", "agreed", """
        ALTER TABLE job ADD CONSTRAINT begun CHECK (status IN ('queued', 'cancelled') OR started_at IS NOT NULL),
            ADD CONSTRAINT "on a branch" CHECK (command <> 'branches' OR branch IS NOT NULL);
        ALTER TABLE account ADD CONSTRAINT expires
            CHECK ((access_token IS NULL) = (access_token_expires_at IS NULL)) NOT VALID;
        ALTER TABLE area ADD CONSTRAINT deep CHECK (type = 'group' OR full_path LIKE '%/%/%')
    """, "account has the constraint expires, .*access_token 'access', access_token_expires_at NULL; area has the "
         "constraint deep, which .*; job has the constraint begun, which refuses a row with status 'paused', "
         "started_at NULL.*; "
         "job has the constraint on a branch, .* command 'branches', branch NULL"),
    Case("a collation without differences", "agreed", """
        CREATE COLLATION loose (provider = libc, locale = 'C');
        ALTER TABLE area_authorization ALTER area_id TYPE text COLLATE loose;
        ALTER TABLE area ALTER full_path TYPE text COLLATE loose;
        UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'loose'
    """, "area.full_path, area_authorization.area_id have the collation .*loose.*, by which texts that differ are"),
    Case("a domain", "agreed", """
        CREATE DOMAIN slashed AS text CHECK (VALUE ~ '/');
        ALTER TABLE area ALTER full_path TYPE slashed USING full_path::slashed
    """, "area.full_path is slashed, not text"),
    Case("times as numbers", "agreed", "ALTER TABLE account ALTER access_token_expires_at TYPE bigint USING NULL",
         "account.access_token_expires_at is bigint, not timestamptz"),
    Case("times as texts", "agreed", "ALTER TABLE job ALTER finished_at TYPE text",
         "job.finished_at is text, not timestamptz"),
    Case("days", "agreed", "ALTER TABLE job ALTER finished_at TYPE date", "job.finished_at is date, not timestamptz"),
    Case("a branch always", "agreed", "ALTER TABLE job ALTER branch SET DEFAULT '', ALTER branch SET NOT NULL",
         "job.branch is NOT NULL, and Crawlyard writes NULL"),
    Case("an expiry always", "agreed", """
        UPDATE account SET access_token_expires_at = now();
        ALTER TABLE account ALTER access_token_expires_at SET NOT NULL
    """,
         "account.access_token_expires_at is NOT NULL"),
    Case("a column that we do not know", "agreed", "ALTER TABLE job ADD COLUMN team text NOT NULL",
         "job.team is NOT NULL without a default"),
    Case("a time without a default", "agreed", "ALTER TABLE area ADD COLUMN updated_at timestamptz NOT NULL",
         "area.updated_at is NOT NULL without a default"),
    Case("a key without a default", "agreed", """
        ALTER TABLE job_area DROP CONSTRAINT job_area_pkey, ADD COLUMN id text PRIMARY KEY,
            ADD UNIQUE ("jobId", full_path)
    """, "job_area.id is NOT NULL without a default"),
    Case("a generated column", "agreed", """
        ALTER TABLE area DROP COLUMN name, ADD COLUMN name text GENERATED ALWAYS AS (full_path) STORED
    """, "area.name is generated"),
    Case("links without a key", "agreed", "ALTER TABLE job_area DROP CONSTRAINT job_area_pkey",
         r"job_area \(jobId, full_path\) is not unique"),
    Case("ids that are unique in part", "agreed", """
        ALTER TABLE area DROP CONSTRAINT area_gitlab_id_key;
        CREATE UNIQUE INDEX of_groups ON area (gitlab_id) WHERE type = 'group'
    """, r"area \(gitlab_id\) is not unique"),
    Case("a deferrable key", "agreed", """
        ALTER TABLE area DROP CONSTRAINT area_gitlab_id_key, ADD CONSTRAINT later UNIQUE (gitlab_id) DEFERRABLE
    """, "area: later is deferrable"),
    Case("links that keep jobs", "agreed", """
        ALTER TABLE job_area DROP CONSTRAINT "job_area_jobId_fkey",
            ADD CONSTRAINT keeping FOREIGN KEY ("jobId") REFERENCES job ON UPDATE CASCADE ON DELETE RESTRICT
    """, "job_area: keeping does not cascade"),
    Case("a view", "agreed", "ALTER TABLE account RENAME TO accounts; CREATE VIEW account AS SELECT * FROM accounts",
         '"account" is no table of its own'),
    Case("a column missing", "agreed", "ALTER TABLE area DROP COLUMN name", 'table "area" exists but lacks name'),
    Case("older times", "agreed", "CREATE TABLE job_error_log (id text, job_id text, timestamp timestamp)",
         "job_error_log.timestamp is timestamp without time zone"),
]  # fmt: skip
