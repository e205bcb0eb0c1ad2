-- As prisma migrate writes it: TIMESTAMP(3), @updatedAt without a default, enums, keys that restrict and cascade.
CREATE TYPE "JobStatus" AS ENUM ('queued', 'running', 'paused', 'failed', 'finished', 'credential_expired',
    'waiting_credential_renewal', 'credential_renewed', 'cancelled');
CREATE TYPE "AreaType" AS ENUM ('group', 'project');
CREATE TABLE "user" (
    "id" TEXT NOT NULL, "name" TEXT, "email" TEXT, "email_verified" BOOLEAN NOT NULL DEFAULT false, "image" TEXT,
    "created_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, "updated_at" TIMESTAMP(3) NOT NULL, "role" TEXT,
    "banned" BOOLEAN, "ban_reason" TEXT, "ban_expires" TIMESTAMP(3), CONSTRAINT "user_pkey" PRIMARY KEY ("id"));
CREATE TABLE "account" (
    "id" TEXT NOT NULL, "account_id" TEXT NOT NULL, "provider_id" TEXT NOT NULL, "user_id" TEXT NOT NULL,
    "access_token" TEXT, "refresh_token" TEXT, "id_token" TEXT, "access_token_expires_at" TIMESTAMP(3),
    "refresh_token_expires_at" TIMESTAMP(3), "scope" TEXT, "password" TEXT,
    "created_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, "updated_at" TIMESTAMP(3) NOT NULL,
    CONSTRAINT "account_pkey" PRIMARY KEY ("id"));
CREATE TABLE "area" (
    "full_path" TEXT NOT NULL, "gitlab_id" TEXT NOT NULL, "name" TEXT, "type" "AreaType" NOT NULL,
    "created_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, CONSTRAINT "area_pkey" PRIMARY KEY ("full_path"));
CREATE TABLE "area_authorization" (
    "accountId" TEXT NOT NULL, "area_id" TEXT NOT NULL,
    CONSTRAINT "area_authorization_pkey" PRIMARY KEY ("accountId", "area_id"));
CREATE TABLE "job" (
    "id" TEXT NOT NULL, "created_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, "started_at" TIMESTAMP(3),
    "finished_at" TIMESTAMP(3), "status" "JobStatus" NOT NULL DEFAULT 'queued',
    "command" TEXT NOT NULL DEFAULT 'authorizationScope', "full_path" TEXT, "branch" TEXT, "from" TIMESTAMP(3),
    "to" TIMESTAMP(3), "accountId" TEXT NOT NULL, "spawned_from" TEXT, "resume_state" JSONB, "progress" JSONB,
    "userId" TEXT, "provider" TEXT, "gitlabGraphQLUrl" TEXT, "updatedAt" TIMESTAMP(3) NOT NULL,
    CONSTRAINT "job_pkey" PRIMARY KEY ("id"));
CREATE TABLE "job_area" (
    "jobId" TEXT NOT NULL, "full_path" TEXT NOT NULL, CONSTRAINT "job_area_pkey" PRIMARY KEY ("jobId", "full_path"));
CREATE UNIQUE INDEX "user_email_key" ON "user"("email");
CREATE UNIQUE INDEX "area_gitlab_id_key" ON "area"("gitlab_id");
ALTER TABLE "account" ADD CONSTRAINT "account_user_id_fkey" FOREIGN KEY ("user_id") REFERENCES "user"("id")
    ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "area_authorization" ADD CONSTRAINT "area_authorization_area_id_fkey" FOREIGN KEY ("area_id")
    REFERENCES "area"("full_path") ON DELETE RESTRICT ON UPDATE CASCADE;
ALTER TABLE "job" ADD CONSTRAINT "job_accountId_fkey" FOREIGN KEY ("accountId") REFERENCES "account"("id")
    ON DELETE RESTRICT ON UPDATE CASCADE;
ALTER TABLE "job" ADD CONSTRAINT "job_spawned_from_fkey" FOREIGN KEY ("spawned_from") REFERENCES "job"("id")
    ON DELETE SET NULL ON UPDATE CASCADE;
ALTER TABLE "job_area" ADD CONSTRAINT "job_area_jobId_fkey" FOREIGN KEY ("jobId") REFERENCES "job"("id")
    ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "job_area" ADD CONSTRAINT "job_area_full_path_fkey" FOREIGN KEY ("full_path")
    REFERENCES "area"("full_path") ON DELETE CASCADE ON UPDATE CASCADE;
INSERT INTO "user" (id, email, updated_at) VALUES ('ann', 'ann@example.org', now());
INSERT INTO "account" (id, account_id, provider_id, user_id, access_token, updated_at, access_token_expires_at)
    VALUES ('acc', '7', 'gitlab-onprem', 'ann', 'glpat-abcdefghij0123456789', now(),
            now() AT TIME ZONE 'UTC' + interval '2 hours');
