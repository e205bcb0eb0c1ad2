"""
The crawlers' wire protocol: a frame is one JSON object, in camelCase on the wire and snake_case here.

Unknown fields are ignored, because a crawler may be newer than we are.
"""

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    SkipValidation,
    TypeAdapter,
)
from pydantic.alias_generators import to_camel

from persistence.schema.states import SystemStatus
from tasks.contract.types import (
    AreaName,
    AreaPath,
    Capacity,
    Count,
    Counts,
    EntityId,
    Id,
    JsonObject,
    Load,
    Message,
    Number,
    Path,
    Priority,
    Trace,
    Word,
    type_of_batch,
)

DEFAULT_CAPACITY = 5

ActiveJobs = Load | Annotated[list[Id], Field(max_length=1000)]
"""A count, or a list of crawler_job_ids."""


class Wire(BaseModel):
    """The base of frames and their parts: camelCase, unknown fields ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )


class _SnakeCase(Wire):
    """The base of those parts that have underscores on the wire; camelCase is taken as well."""

    model_config = ConfigDict(
        alias_generator=AliasGenerator(
            validation_alias=lambda name: AliasChoices(name, to_camel(name)), serialization_alias=to_camel
        )
    )


class HeartbeatData(Wire):
    """The crawler is alive."""

    active_jobs: ActiveJobs | None = None
    total_processed: Count | None = None
    system_status: SystemStatus | Literal["processing"] | None = None


class JobRequestData(Wire):
    """The crawler asks for work."""

    capacity: Capacity = DEFAULT_CAPACITY


class JobStartedData(Wire):
    """The crawler started the job."""

    entity_type: Word | None = None
    entity_id: Path | None = None


class ResumeState(Wire):
    """Where the next attempt may resume; stored unchanged."""

    last_entity_id: Path | None = None
    current_page: Count | None = None
    entity_type: Word | None = None

    def stored(self) -> dict[str, Any]:
        """The form in which the job stores it, and the next crawler gets it."""
        return self.model_dump(by_alias=True, exclude_none=True)


class JobProgressData(Wire):
    """How far the crawler got."""

    stage: Literal["discovering", "fetching", "completed", "failed"]
    entity_type: Word
    processed: Count
    total: Count | None = None
    message: Message | None = None
    item_counts: Counts | None = None
    current_page: Count | None = None
    processing_rate: Number | None = None
    estimated_time_remaining: Number | None = None
    resume_state: ResumeState | None = None


class JobCompletedData(Wire):
    """The job is done; success=false makes it a recoverable failure."""

    success: bool = True
    final_counts: Counts = {}
    message: Message | None = None
    output_files: Annotated[list[Path], Field(max_length=500)] | None = None


class JobFailedData(Wire):
    """The job failed."""

    error: Message
    error_type: Word | None = None
    is_recoverable: bool
    resume_state: ResumeState | None = None
    partial_counts: Counts | None = None
    stack_trace: Trace | None = None
    context: JsonObject | None = None


class TokenRefreshData(_SnakeCase):
    """The token of the account no longer works."""

    current_token_expired: bool | None = None
    last_successful_request: Word | Count | None = None
    error_details: Message | JsonObject | None = None

    @property
    def details_text(self) -> str | None:
        """The error details as one text."""
        details = self.error_details
        return json.dumps(details) if isinstance(details, dict) else details


class DiscoveredJob(_SnakeCase):
    """A group, project or user that a discovery found."""

    job_type: Literal["discover_namespaces", "crawl_user", "crawl_group", "crawl_project"]
    entity_id: EntityId
    namespace_path: AreaPath
    entity_name: AreaName
    priority: Priority = 1
    estimated_size: Count | None = None


class DiscoverySummary(_SnakeCase):
    """The totals of a discovery, as the crawler counted them."""

    total_users: Count | None = None
    total_groups: Count | None = None
    total_projects: Count | None = None
    hierarchy_depth: Count | None = None


class JobsDiscoveredData(_SnakeCase):
    """The groups, projects and users that a discovery found."""

    discovered_jobs: Annotated[SkipValidation[list[DiscoveredJob]], type_of_batch]
    discovery_summary: DiscoverySummary = DiscoverySummary()


class DiscoveredEntity(Wire):
    """A group, project or user that a discovery found, in the older form."""

    id: EntityId
    name: AreaName
    path: AreaPath
    parent_id: EntityId | None = None


class DiscoveryData(Wire):
    """The groups, projects or users that a discovery found, in the older form: all of one kind."""

    entity_type: Literal["group", "groups", "project", "projects", "user", "users"]
    entities: Annotated[SkipValidation[list[DiscoveredEntity]], type_of_batch]


def _with_zone(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


Timestamp = Annotated[datetime, AfterValidator(_with_zone)]
"""The crawler's clock; UTC if it has no time zone."""


def in_utc(timestamp: datetime | None) -> datetime | None:
    """Return the timestamp in UTC, as a database reads it whatever its zone was; None if it is out of range there."""
    try:
        return timestamp and timestamp.astimezone(UTC)
    except OverflowError:
        return None


class _Frame(Wire):
    timestamp: Timestamp

    @property
    def said_at(self) -> datetime | None:
        """When the crawler said so, by its own clock, in UTC."""
        return in_utc(self.timestamp)


class HeartbeatFrame(_Frame):
    """A crawler's heartbeat."""

    type: Literal["heartbeat"]
    data: HeartbeatData = HeartbeatData()


class JobRequestFrame(_Frame):
    """A crawler's request for work."""

    type: Literal["job_request"]
    data: JobRequestData = JobRequestData()


class _JobFrame(_Frame):
    job_id: Id
    """The crawler_job_id of the attempt that the frame is about."""


class JobStartedFrame(_JobFrame):
    """An attempt started."""

    type: Literal["job_started"]
    data: JobStartedData = JobStartedData()


class JobProgressFrame(_JobFrame):
    """An attempt made progress."""

    type: Literal["job_progress"]
    data: JobProgressData


class JobCompletedFrame(_JobFrame):
    """An attempt completed, successfully or not."""

    type: Literal["job_completed"]
    data: JobCompletedData = JobCompletedData()


class JobFailedFrame(_JobFrame):
    """An attempt failed."""

    type: Literal["job_failed"]
    data: JobFailedData


class TokenRefreshFrame(_JobFrame):
    """An attempt ended because the account's token no longer works."""

    type: Literal["token_refresh_request"]
    data: TokenRefreshData = TokenRefreshData()


_TIME = TypeAdapter(datetime)


def _check_time(text: str) -> str:
    _TIME.validate_python(text)
    return text


class _DiscoveryFrame(Wire):
    timestamp: Annotated[str, Field(max_length=64), AfterValidator(_check_time)]
    """The text as the crawler sent it; `crawler_order.discoveries` repeats it."""
    job_id: Id

    @property
    def digest(self) -> str:
        """A hash of the content: it distinguishes two discoveries with the same timestamp."""
        content = json.dumps(self.model_dump(warnings=False), sort_keys=True, default=str)
        return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:16]


class JobsDiscoveredFrame(_DiscoveryFrame):
    """A discovery found groups, projects and users."""

    type: Literal["jobs_discovered"]
    data: JobsDiscoveredData

    @property
    def found(self) -> list[Any]:
        """The items, not validated yet."""
        return self.data.discovered_jobs


class DiscoveryFrame(_DiscoveryFrame):
    """A discovery found groups, projects or users, in the older form."""

    type: Literal["discovery"]
    data: DiscoveryData

    @property
    def found(self) -> list[Any]:
        """The items, not validated yet."""
        return self.data.entities


Discovery = JobsDiscoveredFrame | DiscoveryFrame
JobFrame = JobStartedFrame | JobProgressFrame | JobCompletedFrame | JobFailedFrame | TokenRefreshFrame
Frame = Annotated[HeartbeatFrame | JobRequestFrame | JobFrame | Discovery, Field(discriminator="type")]
