"""
The crawlers' wire protocol: one JSON object a frame, camelCase outside and snake_case here.

Unknown fields are ignored: a crawler may be newer than we are.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from persistence.schema.vocabulary import SystemStatus
from tasks.bounds import Capacity, Count, Counts, Id, JsonObject, Load, Message, Number, Path, Trace, Word

DEFAULT_CAPACITY = 5

ActiveJobs = Load | Annotated[list[Id], Field(max_length=1000)]
"""A count, or a list of crawler_job_ids."""


class _Wire(BaseModel):
    """A part of a frame: camelCase, unknown fields ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )


class HeartbeatData(_Wire):
    """I live."""

    active_jobs: ActiveJobs | None = None
    total_processed: Count | None = None
    system_status: SystemStatus | Literal["processing"] | None = None


class JobRequestData(_Wire):
    """Give me work."""

    capacity: Capacity = DEFAULT_CAPACITY


class JobStartedData(_Wire):
    """I began."""

    entity_type: Word | None = None
    entity_id: Path | None = None


class ResumeState(_Wire):
    """Where the next attempt may start; kept as it came."""

    last_entity_id: Path | None = None
    current_page: Count | None = None
    entity_type: Word | None = None

    def kept(self) -> dict[str, Any]:
        """As it is stored on the job, and given to the next crawler."""
        return self.model_dump(by_alias=True, exclude_none=True)


class JobProgressData(_Wire):
    """Where I am."""

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


class JobCompletedData(_Wire):
    """Done; with success=false it is a recoverable failure."""

    success: bool = True
    final_counts: Counts = {}
    message: Message | None = None
    output_files: Annotated[list[Path], Field(max_length=500)] | None = None


class JobFailedData(_Wire):
    """I could not."""

    error: Message
    error_type: Word | None = None
    is_recoverable: bool
    resume_state: ResumeState | None = None
    partial_counts: Counts | None = None
    stack_trace: Trace | None = None
    context: JsonObject | None = None


class _Frame(_Wire):
    timestamp: datetime


class HeartbeatFrame(_Frame):
    """A crawler's heartbeat."""

    type: Literal["heartbeat"]
    data: HeartbeatData = HeartbeatData()


class JobRequestFrame(_Frame):
    """A crawler's wish for work."""

    type: Literal["job_request"]
    data: JobRequestData = JobRequestData()


class _JobFrame(_Frame):
    job_id: Id
    """The crawler_job_id of the assignment that it speaks for."""


class JobStartedFrame(_JobFrame):
    """An attempt began."""

    type: Literal["job_started"]
    data: JobStartedData = JobStartedData()


class JobProgressFrame(_JobFrame):
    """An attempt goes on."""

    type: Literal["job_progress"]
    data: JobProgressData


class JobCompletedFrame(_JobFrame):
    """An attempt succeeded, or says that it did not."""

    type: Literal["job_completed"]
    data: JobCompletedData = JobCompletedData()


class JobFailedFrame(_JobFrame):
    """An attempt failed."""

    type: Literal["job_failed"]
    data: JobFailedData


JobFrame = JobStartedFrame | JobProgressFrame | JobCompletedFrame | JobFailedFrame
Frame = Annotated[HeartbeatFrame | JobRequestFrame | JobFrame, Field(discriminator="type")]

NOT_YET = frozenset({"jobs_discovered", "discovery", "token_refresh_request"})
"""Frames of the protocol that this version keeps as rejected instead of applying them."""
