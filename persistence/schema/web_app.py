"""
The web app's tables, as far as we read or write them.

We create them only if they are missing, and never alter them: these mappings must match the web app's own.
"""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from persistence.schema.base import Base, Json
from persistence.schema.commands import Command
from persistence.schema.states import JobStatus

_SCOPE = Command.AUTHORIZATION_SCOPE.value


class User(Base):
    """A person who uses the web app."""

    __tablename__ = "user"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    email: Mapped[str | None] = mapped_column(unique=True)
    email_verified: Mapped[bool | None] = mapped_column(server_default=text("false"))
    image: Mapped[str | None]
    created_at: Mapped[datetime | None] = mapped_column(server_default=text("now()"))
    updated_at: Mapped[datetime | None] = mapped_column(server_default=text("now()"))
    role: Mapped[str | None]
    banned: Mapped[bool | None]
    ban_reason: Mapped[str | None]
    ban_expires: Mapped[datetime | None]


class Account(Base):
    """A person's access to one GitLab instance. Tokens are stored nowhere else."""

    __tablename__ = "account"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str | None]
    provider_id: Mapped[str | None]
    user_id: Mapped[str | None] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    access_token: Mapped[str | None]
    refresh_token: Mapped[str | None]
    id_token: Mapped[str | None]
    access_token_expires_at: Mapped[datetime | None]
    refresh_token_expires_at: Mapped[datetime | None]
    scope: Mapped[str | None]
    password: Mapped[str | None]
    created_at: Mapped[datetime | None] = mapped_column(server_default=text("now()"))
    updated_at: Mapped[datetime | None] = mapped_column(server_default=text("now()"))


class Area(Base):
    """A GitLab group or project."""

    __tablename__ = "area"

    full_path: Mapped[str] = mapped_column(primary_key=True)
    gitlab_id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str | None]
    type: Mapped[str]
    created_at: Mapped[datetime | None] = mapped_column(server_default=text("now()"))


class AreaAuthorization(Base):
    """The right of an account to see an area."""

    __tablename__ = "area_authorization"

    account_id: Mapped[str] = mapped_column("accountId", ForeignKey("account.id"), primary_key=True)
    area_id: Mapped[str] = mapped_column(ForeignKey("area.full_path"), primary_key=True)


class Job(Base):
    """What the web app wants crawled."""

    __tablename__ = "job"

    id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    status: Mapped[str] = mapped_column(server_default=JobStatus.QUEUED.value)
    command: Mapped[str] = mapped_column(server_default=_SCOPE)
    full_path: Mapped[str | None]
    branch: Mapped[str | None]
    from_: Mapped[datetime | None] = mapped_column("from")
    to: Mapped[datetime | None]
    account_id: Mapped[str] = mapped_column("accountId", ForeignKey("account.id"))
    spawned_from: Mapped[str | None]
    resume_state: Mapped[Json | None]
    progress: Mapped[Json | None]
    user_id: Mapped[str | None] = mapped_column("userId", ForeignKey("user.id"))
    provider: Mapped[str | None]
    gitlab_graphql_url: Mapped[str | None] = mapped_column("gitlabGraphQLUrl")
    updated_at: Mapped[datetime | None] = mapped_column("updatedAt")

    __table_args__ = (
        Index(
            "job_full_path_branch_command_key",
            "full_path",
            "branch",
            "command",
            unique=True,
            postgresql_where=text(f"command <> '{_SCOPE}'"),
        ),
        Index(
            "job_command_accountId_key",
            "command",
            "accountId",
            unique=True,
            postgresql_where=text(f"command = '{_SCOPE}' AND full_path IS NULL AND branch IS NULL"),
        ),
        Index("job_created_at_idx", "created_at"),
        Index("job_status_idx", "status"),
        Index("job_branch_idx", "branch"),
        Index("job_from_idx", "from"),
        Index("job_to_idx", "to"),
        Index("job_full_path_branch_idx", "full_path", "branch"),
        Index("job_full_path_command_idx", "full_path", "command"),
        Index("job_full_path_status_idx", "full_path", "status"),
        Index("job_full_path_from_idx", "full_path", "from"),
        Index("job_full_path_to_idx", "full_path", "to"),
    )


class JobArea(Base):
    """The area that a job is about."""

    __tablename__ = "job_area"

    job_id: Mapped[str] = mapped_column("jobId", ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    full_path: Mapped[str] = mapped_column(ForeignKey("area.full_path", ondelete="CASCADE"), primary_key=True)
