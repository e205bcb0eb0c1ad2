"""
Our tables.

Ids that we make are COLLATE "C"; ids of the web app keep its collation, or no join would find an index.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from persistence.schema.base import Base, Json, Ulid, Xid8
from persistence.schema.sql import CLAIMABLE, LIVE, SUSPECT_LOSSES


class SocketConnection(Base):
    """
    One crawler's live link.

    A heartbeat changes no indexed column and finds room on its page, so that it stays HOT.
    """

    __tablename__ = "socket_connection"

    id: Mapped[Ulid] = mapped_column(primary_key=True)
    crawler_id: Mapped[str | None]
    connected_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    last_heartbeat: Mapped[datetime] = mapped_column(server_default=text("now()"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    active_jobs: Mapped[Json] = mapped_column(server_default=text("'[]'"))
    """The crawler_job_ids of its live assignments."""
    system_status: Mapped[str] = mapped_column(server_default="idle")
    details: Mapped[Json | None] = mapped_column("metadata")
    capacity: Mapped[int] = mapped_column(server_default=text("5"))
    reported: Mapped[int] = mapped_column(server_default=text("0"))
    """How many jobs the crawler itself last said that it works on."""
    reported_jobs: Mapped[Json | None]
    """Which ones (crawler_job_ids), where it said so."""
    reported_at: Mapped[datetime | None]
    goodbye_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("is_active = (closed_at IS NULL)", name="closed"),
        Index("socket_connection_active_idx", "id", postgresql_where=text("is_active")),
        Index("socket_connection_closed_at_idx", "closed_at", postgresql_where=text("NOT is_active")),
        {"postgresql_with": {"fillfactor": "50"}},
    )


class QueueEntry(Base):
    """A job waiting for a crawler, or being worked off; one a job."""

    __tablename__ = "job_queue"

    id: Mapped[Ulid] = mapped_column(primary_key=True)
    web_app_job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), unique=True)
    priority: Mapped[int] = mapped_column(server_default=text("1"))
    scheduled_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    max_attempts: Mapped[int] = mapped_column(server_default=text("3"))
    data: Mapped[Json | None]
    """Of the order: entity_id, tags, metadata, host."""
    status: Mapped[str] = mapped_column(server_default="pending")
    error: Mapped[str | None]
    last_attempt_at: Mapped[datetime | None]
    account_id: Mapped[str]
    host: Mapped[str] = mapped_column(server_default="")
    """The GitLab host, for its cap; '' where the job has none."""
    ready: Mapped[bool] = mapped_column(server_default=text("true"))
    """Due. Backed-off entries stay out of the claim index until a pass readies them."""
    held: Mapped[bool] = mapped_column(server_default=text("false"))
    """Not to be seated, by the web app's word."""
    losses: Mapped[int] = mapped_column(server_default=text("0"))
    """In a row; progress sets it to 0."""
    goodbyes: Mapped[int] = mapped_column(server_default=text("0"))
    identity: Mapped[str | None]
    """Path, branch and command of a job that we made: what the shared unique index lets through."""
    settled_at: Mapped[datetime | None]
    spawned_from: Mapped[str | None]
    """The job whose discovery found it: `job.spawned_from`, for which the shared table has no index."""
    kept_at: Mapped[datetime | None]
    """When the clean-up last found a reason to keep a job that was old enough to go."""

    __table_args__ = (
        CheckConstraint("(status IN ('completed', 'failed')) = (settled_at IS NOT NULL)", name="settled"),
        Index(
            "job_queue_claim_idx",
            "account_id",
            "host",
            text("priority DESC"),
            "scheduled_at",
            "id",
            postgresql_where=text(CLAIMABLE),
        ),
        Index("job_queue_due_idx", "scheduled_at", postgresql_where=text("status = 'pending' AND NOT ready")),
        Index(
            "job_queue_identity_key", "identity", unique=True, postgresql_where=text("identity IS NOT NULL")
        ),
        Index("job_queue_held_idx", "account_id", "id", postgresql_where=text("held")),
        Index(
            "job_queue_settled_at_idx",
            text("GREATEST(kept_at, settled_at)"),
            postgresql_where=text("settled_at IS NOT NULL"),
        ),
        Index(
            "job_queue_spawned_from_idx",
            "spawned_from",
            "settled_at",
            postgresql_where=text("spawned_from IS NOT NULL"),
        ),
        Index(
            "job_queue_suspect_idx",
            "web_app_job_id",
            postgresql_where=text(f"status = 'processing' AND losses >= {SUSPECT_LOSSES}"),
        ),
        {"postgresql_with": {"fillfactor": "80"}},
    )


class Assignment(Base):
    """One attempt of one job on one connection. Closed, it never lives again."""

    __tablename__ = "job_assignment_mapping"

    id: Mapped[Ulid] = mapped_column(primary_key=True)
    web_app_job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    crawler_job_id: Mapped[Ulid] = mapped_column(unique=True)
    account_id: Mapped[str | None]
    user_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    assigned_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    status: Mapped[str] = mapped_column(server_default="assigned")
    details: Mapped[Json | None] = mapped_column("metadata")
    connection_id: Mapped[Ulid | None]
    host: Mapped[str] = mapped_column(server_default="")
    progressed_at: Mapped[datetime | None]
    absent_since: Mapped[datetime | None]
    """Since when it is missing from its crawler's own list."""
    stale_words: Mapped[int] = mapped_column(server_default=text("0"))
    discoveries: Mapped[Json] = mapped_column(server_default=text("'[]'"))
    """The discovery frames that were applied: {timestamp, digest} each, as they were said."""

    __table_args__ = (
        CheckConstraint("(status IN ('assigned', 'running')) = (completed_at IS NULL)", name="closed"),
        Index("job_assignment_mapping_live_key", "web_app_job_id", unique=True, postgresql_where=text(LIVE)),
        Index("job_assignment_mapping_live_connection_idx", "connection_id", postgresql_where=text(LIVE)),
        Index("job_assignment_mapping_web_app_job_id_idx", "web_app_job_id"),
        {"postgresql_with": {"fillfactor": "45"}},
    )


class JobErrorLog(Base):
    """What went wrong with a job, one row an error; nothing is ever changed but the resolution."""

    __tablename__ = "job_error_log"

    id: Mapped[Ulid] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    timestamp: Mapped[datetime] = mapped_column(server_default=text("now()"))
    error_type: Mapped[str]
    error_message: Mapped[str]
    stack_trace: Mapped[str | None]
    context: Mapped[Json | None]
    retry_count: Mapped[int] = mapped_column(server_default=text("0"))
    is_recoverable: Mapped[bool] = mapped_column(server_default=text("true"))
    resolution: Mapped[str | None]
    fingerprint: Mapped[Ulid | None]
    """The same for errors that are alike; of rows from before us there is none."""

    __table_args__ = (
        Index("job_error_log_fingerprint_idx", "fingerprint", "timestamp"),
        Index("job_error_log_job_id_timestamp_idx", "job_id", "timestamp"),
        Index("job_error_log_timestamp_idx", "timestamp"),
    )


class AccountQueue(Base):
    """An account's place in the matchmaking: when it was last served, and whether it is held or paused."""

    __tablename__ = "account_lane"

    account_id: Mapped[str] = mapped_column(primary_key=True)
    claim_from: Mapped[datetime] = mapped_column(server_default="-infinity")
    """No entry that waits is older than this, as far as is known: passes look no further back."""
    last_seated_at: Mapped[datetime | None]
    held_at: Mapped[datetime | None]
    """Since when its token is known to be of no use; none of its jobs is seated."""
    held_reason: Mapped[str | None]
    held_token: Mapped[str | None]
    """The SHA-256 of that token, in hex: an account with another token is not to be held any more."""
    renewed_at: Mapped[datetime | None]
    """When it last got a new one: what was assigned before had the old one."""
    paused_at: Mapped[datetime | None]
    """Since when somebody wants none of its jobs seated."""
    paused_reason: Mapped[str | None]


class LiveCount(Base):
    """How many attempts live in a lane, in parts: each backend adds to a row of its own."""

    __tablename__ = "live_count"

    account_id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(primary_key=True)
    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    live: Mapped[int]

    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)


class CredentialRefresh(Base):
    """
    One use of one refresh token, claimed before the call and committed.

    A token that was claimed is never sent again: GitLab revokes the whole family when a used one comes twice.
    """

    __tablename__ = "credential_refresh"

    account_id: Mapped[str] = mapped_column(primary_key=True)
    token_hash: Mapped[Ulid] = mapped_column(primary_key=True)
    """The SHA-256 of the refresh token, in hex."""
    claimed_by: Mapped[str]
    """Names one run of the task: a claim whose commit was in doubt is known by its own run."""
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name="ended"),
        Index("credential_refresh_started_at_idx", "started_at"),
    )


class DeferredJob(Base):
    """A job that a discovery found and that waits outside of the queue, since its account's cap is reached."""

    __tablename__ = "deferred_job"

    id: Mapped[Ulid] = mapped_column(primary_key=True)
    """Becomes the job's id."""
    account_id: Mapped[str]
    user_id: Mapped[str | None]
    provider: Mapped[str | None]
    graphql_url: Mapped[str | None]
    command: Mapped[str]
    full_path: Mapped[str]
    priority: Mapped[int]
    entity_id: Mapped[str | None]
    spawned_from: Mapped[str]
    deferred_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    __table_args__ = (
        Index(
            "deferred_job_identity_key",
            text("COALESCE(graphql_url, '')"),
            "full_path",
            "command",
            unique=True,
        ),
        Index("deferred_job_account_id_idx", "account_id", "id"),
        Index("deferred_job_spawned_from_idx", "spawned_from"),
    )


class AreaHost(Base):
    """The GitLab host of an area that was discovered; the shared table does not say it."""

    __tablename__ = "area_host"

    full_path: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]


class AreaChange(Base):
    """An area that was found under another path, or a path that was found with another id."""

    __tablename__ = "area_change"

    id: Mapped[Ulid] = mapped_column(primary_key=True)
    changed_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    full_path: Mapped[str]
    gitlab_id: Mapped[str]
    former_path: Mapped[str | None]
    former_gitlab_id: Mapped[str | None]
    account_id: Mapped[str]
    job_id: Mapped[str]
    """The discovery that found it, and its account."""

    __table_args__ = (CheckConstraint("num_nonnulls(former_path, former_gitlab_id) > 0", name="changed"),)


class LivenessState(Base):
    """One row: what the sweeps know of themselves."""

    __tablename__ = "liveness_state"

    id: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    last_sweep_at: Mapped[datetime | None]
    """The as_of of the last sweep that ran."""
    grace_until: Mapped[datetime | None]
    """Before it nothing is taken away: we were the ones who were gone."""
    mass_waited_at: Mapped[datetime | None]
    """Since when more than half of the fleet is silent, and the sweeps wait one timeout longer."""
    mass_as_of: Mapped[datetime | None]
    """The sweep that takes more than half of the fleet: none of its units counts a loss."""

    __table_args__ = (CheckConstraint("id", name="one_row"),)


class Adoption(Base):
    """One row: which jobs of an older database we leave alone until `crawlyard adopt`."""

    __tablename__ = "adoption"

    id: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    adopted_from: Mapped[datetime | None]

    __table_args__ = (CheckConstraint("id", name="one_row"),)


class PeriodicPublish(Base):
    """When a periodic task was last let through: many beats, or many workers' timers, are as one."""

    __tablename__ = "periodic_ring"

    task: Mapped[str] = mapped_column(primary_key=True)
    rung_at: Mapped[datetime]


class ProcessedMessage(Base):
    """A message that was handled; delivered again, it changes nothing."""

    __tablename__ = "handled_message"

    message_id: Mapped[Ulid] = mapped_column(primary_key=True)
    handled_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    __table_args__ = (Index("handled_message_handled_at_idx", "handled_at"),)


class RejectedMessage(Base):
    """A message, or an item of one, that could not be accepted, and why. Its payload is redacted."""

    __tablename__ = "rejected_message"

    id: Mapped[Ulid] = mapped_column(primary_key=True)
    rejected_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    task: Mapped[str | None]
    message_id: Mapped[str | None]
    reason: Mapped[str]
    detail: Mapped[str]
    payload: Mapped[Json | None]

    __table_args__ = (Index("rejected_message_rejected_at_idx", "rejected_at"),)


class Event(Base):
    """
    What happened, for the web app to read. Nothing of ours is driven by it.

    Order and cursor are (xid, id), read below `pg_snapshot_xmin`: a plain sequence would skip
    rows that commit late.
    """

    __tablename__ = "dispatch_event"

    xid: Mapped[Any] = mapped_column(Xid8, primary_key=True, server_default=text("pg_current_xact_id()"))
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    type: Mapped[str]
    job_id: Mapped[str | None]
    account_id: Mapped[str | None]
    connection_id: Mapped[str | None]
    payload: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class EventEdge(Base):
    """One row: the last event that the clean-up deleted. A cursor behind it has missed something."""

    __tablename__ = "event_edge"

    id: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    trimmed_xid: Mapped[Any] = mapped_column(Xid8, server_default=text("'0'"))
    trimmed_id: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))

    __table_args__ = (CheckConstraint("id", name="one_row"),)


class Statistic(Base):
    """A count that is dear, as it was when upkeep last took it."""

    __tablename__ = "statistic"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Json] = mapped_column()
    taken_at: Mapped[datetime]
