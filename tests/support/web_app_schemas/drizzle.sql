-- As drizzle-kit writes it: timestamp by default, text ids, pgEnum, snake_case constraint names.
CREATE TYPE status AS ENUM ('queued', 'running', 'paused', 'failed', 'finished', 'credential_expired',
    'waiting_credential_renewal', 'credential_renewed', 'cancelled');
CREATE TABLE "user" (
    "id" text PRIMARY KEY NOT NULL, "name" text NOT NULL, "email" text NOT NULL, "email_verified" boolean NOT NULL,
    "image" text, "created_at" timestamp NOT NULL, "updated_at" timestamp NOT NULL, "role" text, "banned" boolean,
    "ban_reason" text, "ban_expires" timestamp, CONSTRAINT "user_email_unique" UNIQUE ("email"));
CREATE TABLE "account" (
    "id" text PRIMARY KEY NOT NULL, "account_id" text NOT NULL, "provider_id" text NOT NULL, "user_id" text NOT NULL,
    "access_token" text, "refresh_token" text, "id_token" text, "access_token_expires_at" timestamp,
    "refresh_token_expires_at" timestamp, "scope" text, "password" text, "created_at" timestamp NOT NULL,
    "updated_at" timestamp NOT NULL);
CREATE TABLE "area" (
    "full_path" text PRIMARY KEY NOT NULL, "gitlab_id" text NOT NULL, "name" text, "type" text NOT NULL,
    "created_at" timestamp DEFAULT now() NOT NULL, CONSTRAINT "area_gitlab_id_unique" UNIQUE ("gitlab_id"));
CREATE TABLE "area_authorization" (
    "accountId" text NOT NULL, "area_id" text NOT NULL,
    CONSTRAINT "area_authorization_accountId_area_id_pk" PRIMARY KEY ("accountId", "area_id"));
CREATE TABLE "job" (
    "id" text PRIMARY KEY NOT NULL, "created_at" timestamp DEFAULT now() NOT NULL, "started_at" timestamp,
    "finished_at" timestamp, "status" status DEFAULT 'queued' NOT NULL,
    "command" text DEFAULT 'authorizationScope' NOT NULL, "full_path" text, "branch" text, "from" timestamp,
    "to" timestamp, "accountId" text NOT NULL, "spawned_from" text, "resume_state" jsonb, "progress" jsonb,
    "userId" text, "provider" text, "gitlabGraphQLUrl" text, "updatedAt" timestamp);
CREATE TABLE "job_area" (
    "jobId" text NOT NULL, "full_path" text NOT NULL,
    CONSTRAINT "job_area_jobId_full_path_pk" PRIMARY KEY ("jobId", "full_path"));
ALTER TABLE "account" ADD CONSTRAINT "account_user_id_user_id_fk" FOREIGN KEY ("user_id") REFERENCES "user"("id")
    ON DELETE cascade ON UPDATE no action;
ALTER TABLE "job" ADD CONSTRAINT "job_accountId_account_id_fk" FOREIGN KEY ("accountId") REFERENCES "account"("id")
    ON DELETE no action ON UPDATE no action;
ALTER TABLE "job_area" ADD CONSTRAINT "job_area_jobId_job_id_fk" FOREIGN KEY ("jobId") REFERENCES "job"("id")
    ON DELETE cascade ON UPDATE no action;
ALTER TABLE "job_area" ADD CONSTRAINT "job_area_full_path_area_full_path_fk" FOREIGN KEY ("full_path")
    REFERENCES "area"("full_path") ON DELETE cascade ON UPDATE no action;
CREATE UNIQUE INDEX "job_key" ON "job" USING btree ("full_path", "branch", "command")
    WHERE command <> 'authorizationScope';
INSERT INTO "user" VALUES ('ann', 'Ann', 'ann@example.org', false, NULL, now(), now());
INSERT INTO "account" (id, account_id, provider_id, user_id, access_token, created_at, updated_at,
        access_token_expires_at)
    VALUES ('acc', '7', 'gitlab-onprem', 'ann', 'glpat-abcdefghij0123456789', now(), now(),
            now() AT TIME ZONE 'UTC' + interval '2 hours');
