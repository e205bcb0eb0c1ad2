"""
Our tables.

Ids that we make are COLLATE "C"; ids of the web app keep its collation, or no join would find an index.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from persistence.schema.base import Base, Json, Ulid, Xid8
from persistence.schema.sql import CLAIMABLE, LIVE, fragment
from persistence.schema.states import AttemptStatus, EntryStatus, SystemStatus


class SocketConnection(Base):
    """
    One crawler's session with us.

    A heartbeat changes no indexed column, and the fillfactor leaves room on the page, so its update is HOT.
    """

    __tablename__ = "socket_connection"

    id: Mapped[Ulid] = mapped_column(primary_key=True)
    crawler_id: Mapped[str | None]
    connected_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    last_heartbeat: Mapped[datetime] = mapped_column(server_default=text("now()"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    active_jobs: Mapped[Json] = mapped_column(server_default=text("'[]'"))
    """The crawler_job_ids of its live assignments."""
    system_status: Mapped[str] = mapped_column(server_default=SystemStatus.IDLE.value)
    details: Mapped[Json | None] = mapped_column("metadata")
    capacity: Mapped[int] = mapped_column(server_default=text("5"))
    reported: Mapped[int] = mapped_column(server_default=text("0"))
    """The number of jobs that the crawler last reported to be working on."""
    reported_jobs: Mapped[Json | None]
    """Their crawler_job_ids, if it reported them."""
    reported_at: Mapped[datetime | None]
    goodbye_at: Mapped[datetime | None]
    """When the crawler disconnected cleanly."""
    closed_at: Mapped[datetime | None]
    asked_capacity: Mapped[int | None]
    """The capacity that its crawler asked for, if that is more than it may have."""
    ends_from: Mapped[datetime | None]
    """When the present count of ended attempts began."""
    ends: Mapped[int] = mapped_column(server_default=text("0"))
    """The number of attempts that its crawler has ended since then."""
    implausible_at: Mapped[datetime | None]
    """When it was last reported that its crawler ends implausibly many attempts."""
    doubts_from: Mapped[datetime | None]
    """When the present hour of doubts began."""
    doubts: Mapped[int] = mapped_column(server_default=text("0"))
    """The number of accounts whose tokens its crawler has brought into doubt since then."""
    link: Mapped[str | None]
    """Its newest link, by the gateway's name for it; NULL if it was registered without one."""
    incarnation: Mapped[int | None] = mapped_column(BigInteger)
    """The crawler's number for that link."""
    gateway: Mapped[str | None]
    """The gateway that holds it."""
    lost_at: Mapped[datetime | None]
    """When that link ended without a goodbye; NULL again once there is a newer one."""
    session_hash: Mapped[str | None]
    """The SHA-256 of its session, in hex."""
    crawler_credential: Mapped[str | None]
    """Of its crawler, as the gateway knows it; NULL while crawlers have none."""
    capacity_said_at: Mapped[datetime | None]
    """When its crawler asked for `capacity`, by the crawler's clock, which is compared with nothing but itself."""
    reported_said_at: Mapped[datetime | None]
    """When it reported its jobs, by the same clock."""

    __table_args__ = (
        CheckConstraint("is_active = (closed_at IS NULL)", name="closed"),
        Index("socket_connection_active_idx", "id", postgresql_where=text("is_active")),
        Index("socket_connection_closed_at_idx", "closed_at", postgresql_where=text("NOT is_active")),
        {"postgresql_with": {"fillfactor": "50"}},
    )


class QueueEntry(Base):
    """A job waiting for, or being worked on by, a crawler; one entry per job."""

    __tablename__ = "job_queue"

    id: Mapped[Ulid] = mapped_column(primary_key=True)
    web_app_job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), unique=True)
    priority: Mapped[int] = mapped_column(server_default=text("1"))
    scheduled_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    max_attempts: Mapped[int] = mapped_column(server_default=text("3"))
    data: Mapped[Json | None]
    """What the order needs beyond the job: entity_id, tags, metadata, host."""
    status: Mapped[str] = mapped_column(server_default=EntryStatus.PENDING.value)
    error: Mapped[str | None]
    last_attempt_at: Mapped[datetime | None]
    account_id: Mapped[str]
    host: Mapped[str] = mapped_column(server_default="")
    """The GitLab host, for its cap; '' if the job has none."""
    ready: Mapped[bool] = mapped_column(server_default=text("true"))
    """Due. An entry that is backing off stays out of the claim index until a round makes it ready."""
    held: Mapped[bool] = mapped_column(server_default=text("false"))
    """Parked: the status that the web app gave the job forbids assigning it."""
    losses: Mapped[int] = mapped_column(server_default=text("0"))
    """Losses in a row; progress resets them to 0."""
    goodbyes: Mapped[int] = mapped_column(server_default=text("0"))
    """Attempts that ended because their crawler disconnected cleanly."""
    identity: Mapped[str | None]
    """Path, branch and command of a job that we created, as the unique index of `job` compares them."""
    settled_at: Mapped[datetime | None]
    spawned_from: Mapped[str | None]
    """The job whose discovery found it. A copy of `job.spawned_from`, which has no index."""
    kept_at: Mapped[datetime | None]
    """When the clean-up last found a reason to keep a job that was old enough to delete."""
    hold_reason: Mapped[str | None]
    """Why a queued job is parked: its GitLab is not the one to which its account is bound."""
    hold_url: Mapped[str | None]
    """The URL of the job by which that was decided; if the web app changes it, it is decided anew."""
    hold_origin: Mapped[str | None]
    """The origin of that URL; '' if it cannot be parsed, NULL if the job has none."""
    hold_announced: Mapped[str | None]
    """The reason of the last event `job_held`, until the job is assigned or queued anew: it is not repeated."""

    __table_args__ = (
        CheckConstraint(fragment("(status IN $entry_settled) = (settled_at IS NOT NULL)"), name="settled"),
        Index(
            "job_queue_claim_idx",
            "account_id",
            "host",
            text("priority DESC"),
            "scheduled_at",
            "id",
            postgresql_where=text(CLAIMABLE),
        ),
        Index(
            "job_queue_due_idx",
            "scheduled_at",
            postgresql_where=text(fragment("status = $entry_pending AND NOT ready")),
        ),
        Index(
            "job_queue_identity_key", "identity", unique=True, postgresql_where=text("identity IS NOT NULL")
        ),
        Index("job_queue_held_idx", "account_id", "id", postgresql_where=text("held")),
        Index("job_queue_hold_idx", "account_id", "id", postgresql_where=text("hold_reason IS NOT NULL")),
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
            postgresql_where=text(fragment("status = $entry_processing AND losses >= $suspect_losses")),
        ),
        {"postgresql_with": {"fillfactor": "80"}},
    )


class Assignment(Base):
    """One attempt of one job on one connection. A closed attempt never becomes live again."""

    __tablename__ = "job_assignment_mapping"

    id: Mapped[Ulid] = mapped_column(primary_key=True)
    web_app_job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    crawler_job_id: Mapped[Ulid] = mapped_column(unique=True)
    account_id: Mapped[str | None]
    user_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    assigned_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    status: Mapped[str] = mapped_column(server_default=AttemptStatus.ASSIGNED.value)
    details: Mapped[Json | None] = mapped_column("metadata")
    connection_id: Mapped[Ulid | None]
    host: Mapped[str] = mapped_column(server_default="")
    progressed_at: Mapped[datetime | None]
    absent_since: Mapped[datetime | None]
    """Since when the attempt has been missing from the list that its crawler reports."""
    stale_words: Mapped[int] = mapped_column(server_default=text("0"))
    """The number of stale frames that named it."""
    discoveries: Mapped[Json] = mapped_column(server_default=text("'[]'"))
    """The discovery frames that were applied, in order: {timestamp, digest} each."""
    gitlab_url: Mapped[str | None]
    """The origin that was approved for the account's token; NULL if an older worker opened the attempt."""

    __table_args__ = (
        CheckConstraint(fragment("(status IN $attempt_live) = (completed_at IS NULL)"), name="closed"),
        Index("job_assignment_mapping_live_key", "web_app_job_id", unique=True, postgresql_where=text(LIVE)),
        Index("job_assignment_mapping_live_connection_idx", "connection_id", postgresql_where=text(LIVE)),
        Index("job_assignment_mapping_web_app_job_id_idx", "web_app_job_id"),
        {"postgresql_with": {"fillfactor": "45"}},
    )


class JobErrorLog(Base):
    """The error log of jobs, one row per error. Only the resolution of a row ever changes."""

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
    """Equal for similar errors; NULL in rows that are older than Crawlyard."""

    __table_args__ = (
        Index("job_error_log_fingerprint_idx", "fingerprint", "timestamp"),
        Index("job_error_log_job_id_timestamp_idx", "job_id", "timestamp"),
        Index("job_error_log_timestamp_idx", "timestamp"),
    )


class AccountQueue(Base):
    """An account in the assignment: when it last got a slot, and whether it is blocked or paused."""

    __tablename__ = "account_lane"

    account_id: Mapped[str] = mapped_column(primary_key=True)
    claim_from: Mapped[datetime] = mapped_column(server_default="-infinity")
    """A lower bound of scheduled_at of its waiting entries: rounds read the claim index from here on."""
    last_seated_at: Mapped[datetime | None]
    """When one of its jobs was last assigned."""
    held_at: Mapped[datetime | None]
    """Since when the account is blocked: its token is known not to work, and none of its jobs is assigned."""
    held_reason: Mapped[str | None]
    held_token: Mapped[str | None]
    """The SHA-256 of that token, in hex. The block ends when the account has another token."""
    renewed_at: Mapped[datetime | None]
    """When the account last got a new token; attempts assigned earlier have the old one."""
    paused_at: Mapped[datetime | None]
    """Since when an operator has paused the account: none of its jobs is assigned."""
    paused_reason: Mapped[str | None]
    doubted_at: Mapped[datetime | None]
    """Since when a crawler says that its token has died, and nothing else does; `held_token` is that token."""
    probing_at: Mapped[datetime | None]
    """Since when one job at a time is assigned, to see whether a token works that was in doubt."""


class AccountOrigin(Base):
    """The origin of the GitLab to which an account's token may go, and to no other."""

    __tablename__ = "account_origin"

    account_id: Mapped[str] = mapped_column(primary_key=True)
    origin: Mapped[str]
    bound_by: Mapped[str]
    bound_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    __table_args__ = (Index("account_origin_origin_idx", "origin", "account_id"),)


class CrawlerCredential(Base):
    """Who may connect as a crawler. Of a secret only its SHA-256 is kept, in hex."""

    __tablename__ = "crawler_credential"

    id: Mapped[Ulid] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    secret_hash: Mapped[str] = mapped_column(unique=True)
    former_hash: Mapped[str | None]
    """Of the secret before the last rotation."""
    former_valid_until: Mapped[datetime | None]
    capacity: Mapped[int | None]
    """The most jobs at once of one connection, for its gateway to bound."""
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    rotated_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class GitlabSpelling(Base):
    """The host of a GitLab's URL that was met, where it does not stand in the URL as it is compared."""

    __tablename__ = "gitlab_spelling"

    url: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]


class GitlabAlias(Base):
    """A GitLab that has moved: its former origin names the one at which it is now. None is an alias of an alias."""

    __tablename__ = "gitlab_alias"

    origin: Mapped[str] = mapped_column(primary_key=True)
    moved_to: Mapped[str]
    moved_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    carried_at: Mapped[datetime | None]
    """When all that was stored under the former origin had been carried over; NULL until then."""

    __table_args__ = (CheckConstraint("origin <> moved_to", name="moved"),)


class LiveCount(Base):
    """The number of live attempts of a host queue, as a sum over shards: each backend adds to its own row."""

    __tablename__ = "live_count"

    account_id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(primary_key=True)
    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    live: Mapped[int]

    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)


class CredentialRefresh(Base):
    """
    One use of one refresh token, reserved and committed before GitLab is called.

    A reserved token is never sent again: GitLab revokes all tokens of a family if one of them is used twice.
    """

    __tablename__ = "credential_refresh"

    account_id: Mapped[str] = mapped_column(primary_key=True)
    token_hash: Mapped[Ulid] = mapped_column(primary_key=True)
    """The SHA-256 of the refresh token, in hex."""
    claimed_by: Mapped[str]
    """Names one run of the task, so that a run whose COMMIT was in doubt recognizes its own reservation."""
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name="ended"),
        Index("credential_refresh_started_at_idx", "started_at"),
    )


class DeferredJob(Base):
    """A job that a discovery found, kept out of the queue because its account has reached pending_cap."""

    __tablename__ = "deferred_job"

    id: Mapped[Ulid] = mapped_column(primary_key=True)
    """The id that the job will have."""
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


class PathSpelling(Base):
    """A spelling, with capitals, of a path that an area or a job has or had."""

    __tablename__ = "path_spelling"

    path_key: Mapped[str] = mapped_column(primary_key=True)
    """The path without capitals."""
    full_path: Mapped[str] = mapped_column(primary_key=True)
    noted_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    """When a row with it was last added, to the day."""


class AreaHost(Base):
    """The GitLab host of a discovered area, which the web app's table lacks."""

    __tablename__ = "area_host"

    full_path: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]


class AreaChange(Base):
    """An area found under another path, or a path found with another id: a change that was made, or is proposed."""

    __tablename__ = "area_change"

    id: Mapped[Ulid] = mapped_column(primary_key=True)
    changed_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    full_path: Mapped[str]
    gitlab_id: Mapped[str]
    former_path: Mapped[str | None]
    former_gitlab_id: Mapped[str | None]
    account_id: Mapped[str]
    job_id: Mapped[str]
    """The discovery job that found the change."""
    status: Mapped[str] = mapped_column(server_default=text("'applied'"))
    name: Mapped[str | None]
    type: Mapped[str | None]
    graphql_url: Mapped[str | None]
    """These three as the area was found, if the change was proposed."""
    crawler_credential: Mapped[str | None]
    """Of the crawler that found it; NULL while crawlers have none."""
    decided_at: Mapped[datetime | None]
    """When a proposed change was applied or rejected."""

    __table_args__ = (
        CheckConstraint("num_nonnulls(former_path, former_gitlab_id) > 0", name="changed"),
        Index("area_change_gitlab_id_idx", "gitlab_id"),
        Index(
            "area_change_proposed_key",
            "gitlab_id",
            "full_path",
            "account_id",
            unique=True,
            postgresql_where=text("status = 'proposed'"),
        ),
    )


class LivenessState(Base):
    """One row: the state that one sweep leaves for the next."""

    __tablename__ = "liveness_state"

    id: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    last_sweep_at: Mapped[datetime | None]
    """The as_of of the last sweep that ran."""
    grace_until: Mapped[datetime | None]
    """Until then no connection expires, because the outage was ours."""
    mass_waited_at: Mapped[datetime | None]
    """When more than half of the fleet was first found silent; the sweeps then wait one more timeout."""
    mass_as_of: Mapped[datetime | None]
    """The as_of of a sweep that expires more than half of the fleet; its units count no losses."""

    __table_args__ = (CheckConstraint("id", name="one_row"),)


class Adoption(Base):
    """One row: the jobs of an older database are left alone until `crawlyard adopt`."""

    __tablename__ = "adoption"

    id: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    adopted_from: Mapped[datetime | None]

    __table_args__ = (CheckConstraint("id", name="one_row"),)


class PeriodicPublish(Base):
    """When a periodic task last ran, so that several beats act as one."""

    __tablename__ = "periodic_ring"

    task: Mapped[str] = mapped_column(primary_key=True)
    rung_at: Mapped[datetime]


class ProcessedMessage(Base):
    """A message that was processed; a redelivery changes nothing."""

    __tablename__ = "handled_message"

    message_id: Mapped[Ulid] = mapped_column(primary_key=True)
    handled_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    applied: Mapped[bool] = mapped_column(server_default=text("true"))
    """Its beats, ends and errors are committed: who waits for an end waits for this."""
    done: Mapped[bool] = mapped_column(server_default=text("true"))
    """The payloads of its refused items are stored, too; the message is acknowledged after this."""

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
    connection_id: Mapped[str | None]
    """The connection that sent it, in whose bounds it counts; as the item named it."""
    bytes: Mapped[int | None]
    """The length of the payload as JSON; NULL in rows of earlier versions."""
    digest: Mapped[str | None]
    """SHA-256 of an item of a message of frames, as it was sent."""
    sent_bytes: Mapped[int | None]
    """The length of that item as JSON."""
    sampled_out: Mapped[bool] = mapped_column(server_default=text("false"))
    """Its payload is not kept: its message had more refused items than are stored of one."""

    __table_args__ = (Index("rejected_message_rejected_at_idx", "rejected_at"),)


class RejectedCount(Base):
    """What one connection has in `rejected_message`; '' is what is of no connection, '*' is all."""

    __tablename__ = "rejected_count"

    connection_id: Mapped[Ulid] = mapped_column(primary_key=True)
    rows: Mapped[int] = mapped_column(server_default=text("0"))
    bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    dropped: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """How many rows were not kept, since there was no room."""
    dropped_at: Mapped[datetime | None]
    """When that last happened."""


class Event(Base):
    """
    An event for the web app to read. Crawlyard itself does not depend on events.

    Order and cursor are (xid, id), read below `pg_snapshot_xmin`: a reader that follows a plain sequence would
    skip rows that commit late.
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
    """One row: the last event that the clean-up deleted. A reader with an older cursor has missed events."""

    __tablename__ = "event_edge"

    id: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    trimmed_xid: Mapped[Any] = mapped_column(Xid8, server_default=text("'0'"))
    trimmed_id: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))

    __table_args__ = (CheckConstraint("id", name="one_row"),)


class Statistic(Base):
    """A figure that is expensive to count, with the time at which it was counted."""

    __tablename__ = "statistic"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Json] = mapped_column()
    taken_at: Mapped[datetime]
