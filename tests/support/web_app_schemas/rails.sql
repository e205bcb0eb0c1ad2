-- As Active Record writes it: bigserial ids, timestamp(6), t.timestamps without defaults, string enums with a CHECK,
-- and join tables without a key.
CREATE TABLE "user" (
    id bigserial PRIMARY KEY, name character varying, email character varying, email_verified boolean, image character varying,
    created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL, role character varying, banned boolean,
    ban_reason character varying, ban_expires timestamp(6));
CREATE UNIQUE INDEX index_user_on_email ON "user" (email);
CREATE TABLE account (
    id bigserial PRIMARY KEY, account_id character varying, provider_id character varying, user_id bigint NOT NULL,
    access_token character varying, refresh_token character varying, id_token character varying,
    access_token_expires_at timestamp(6), refresh_token_expires_at timestamp(6), scope character varying,
    password character varying, created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL);
CREATE TABLE area (
    full_path character varying PRIMARY KEY, gitlab_id bigint NOT NULL, name character varying,
    type character varying NOT NULL, created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL);
CREATE UNIQUE INDEX index_area_on_gitlab_id ON area (gitlab_id);
CREATE TABLE area_authorization ("accountId" bigint NOT NULL, area_id character varying NOT NULL);
CREATE TABLE job (
    id bigserial PRIMARY KEY, created_at timestamp(6) NOT NULL, started_at timestamp(6), finished_at timestamp(6),
    status character varying DEFAULT 'queued' NOT NULL, command character varying DEFAULT 'authorizationScope' NOT NULL,
    full_path character varying, branch character varying, "from" timestamp(6), "to" timestamp(6),
    "accountId" bigint NOT NULL, spawned_from bigint, resume_state json, progress json DEFAULT '{}', "userId" bigint,
    provider character varying, "gitlabGraphQLUrl" character varying, "updatedAt" timestamp(6) NOT NULL,
    CONSTRAINT status_known CHECK (status IN ('queued', 'running', 'paused', 'failed', 'finished')));
CREATE TABLE job_area ("jobId" bigint NOT NULL, full_path character varying NOT NULL);
CREATE TABLE comment (id bigserial PRIMARY KEY, "accountId" bigint, "jobId" bigint);
ALTER TABLE account ADD CONSTRAINT fk_rails_b1 FOREIGN KEY (user_id) REFERENCES "user" (id);
ALTER TABLE area_authorization ADD CONSTRAINT fk_rails_b2 FOREIGN KEY ("accountId") REFERENCES account (id);
ALTER TABLE job ADD CONSTRAINT fk_rails_b3 FOREIGN KEY ("accountId") REFERENCES account (id);
ALTER TABLE job ADD CONSTRAINT fk_rails_b4 FOREIGN KEY (spawned_from) REFERENCES job (id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE job_area ADD CONSTRAINT fk_rails_b5 FOREIGN KEY ("jobId") REFERENCES job (id);
ALTER TABLE comment ADD CONSTRAINT fk_rails_b6 FOREIGN KEY ("accountId") REFERENCES account (id);
INSERT INTO "user" (id, email, created_at, updated_at) VALUES (1, 'ann@example.org', now(), now());
INSERT INTO account (id, user_id, access_token, created_at, updated_at, access_token_expires_at)
    VALUES (1, 1, 'glpat-abcdefghij0123456789', now(), now(), now() AT TIME ZONE 'UTC' + interval '2 hours');
INSERT INTO area VALUES ('lab/tool', 42, 'tool', 'project', now(), now());
