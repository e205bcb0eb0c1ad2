"""
The contract: every task's payload and every frame, camelCase on the wire and snake_case here.

Orders and commands forbid unknown fields, frames ignore them. A payload that is a batch is
checked item by item by whoever applies it (`Batch`), so that a bad item never costs a good one.
Source of the frames: the crawlers' wire protocol, one JSON object per frame.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SkipValidation,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from persistence.schema.vocabulary import COMMAND_OF_JOB_TYPE, Command, Provider, SystemStatus
from tasks.bounds import (
    Capacity,
    Count,
    Counts,
    Id,
    JsonObject,
    Load,
    Message,
    Number,
    Path,
    Priority,
    Trace,
    Ulid,
    Word,
)

DEFAULT_CAPACITY = 5
BATCH_LIMIT = 10_000
"""Items in one message; what is more is refused as a whole, and can be sent again in parts."""


def _is_a_batch(items: object) -> object:
    if not isinstance(items, list):
        raise PydanticCustomError("not_a_list", "must be a list")
    if len(items) > BATCH_LIMIT:
        raise PydanticCustomError("batch_too_large", f"must hold at most {BATCH_LIMIT} items")
    return items


class Payload(BaseModel):
    """The keyword arguments of a task."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Item(Payload):
    """An item of a batch."""


type_of_batch = AfterValidator(_is_a_batch)


# Jobs


def _host_url(host: str) -> str:
    """Scheme and host of a GitLab instance; without a scheme it means https."""
    url = host if "://" in host else f"https://{host}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise PydanticCustomError("not_a_host", "must be a host, or an http(s) URL without credentials")
    return f"{parts.scheme}://{parts.netloc.lower()}"


class Order(_Item):
    """One job that the web app wants done."""

    account_id: Id
    user_id: Id | None = None
    provider: Provider
    job_type: Literal["discover_namespaces", "crawl_user", "crawl_group", "crawl_project"] | None = None
    command: Command | None = None
    entity_id: Path | None = None
    namespace_path: Path | None = None
    branch: Word | None = None
    gitlab_host: Annotated[Word, AfterValidator(_host_url)]
    priority: Priority = 1
    resume: bool = False
    force: bool = False
    web_app_job_id: Id | None = None
    tags: Annotated[list[Word], Field(max_length=100)] | None = None
    metadata: JsonObject | None = None

    @model_validator(mode="after")
    def _names_one_command(self) -> Self:
        if (self.job_type is None) == (self.command is None):
            raise PydanticCustomError("one_command", "give either job_type or command")
        if self.command is Command.AUTHORIZATION_SCOPE:
            raise PydanticCustomError("own_command", "authorizationScope is never sent to a crawler")
        return self

    @property
    def asks_for(self) -> Command:
        """What is to be crawled."""
        return self.command or COMMAND_OF_JOB_TYPE[self.job_type or ""]


class Submit(Payload):
    """jobs.submit: create these jobs and queue them."""

    orders: Annotated[SkipValidation[list[Order]], type_of_batch]


class Enqueue(Payload):
    """jobs.enqueue: the web app has inserted these jobs itself; queue them."""

    job_ids: Annotated[SkipValidation[list[Id]], type_of_batch]


class Assign(Payload):
    """jobs.assign: one matchmaking pass."""


class Selection(Payload):
    """Which jobs: exactly one of these."""

    job_ids: Annotated[list[Id], Field(min_length=1, max_length=BATCH_LIMIT)] | None = None
    account_id: Id | None = None
    area: Path | None = None
    subtree_of: Id | None = None

    @model_validator(mode="after")
    def _says_one(self) -> Self:
        said = (self.job_ids, self.account_id, self.area, self.subtree_of)
        if sum(choice is not None for choice in said) != 1:
            raise PydanticCustomError("one_selection", "give one of job_ids, account_id, area, subtree_of")
        return self


class Cancel(Selection):
    """jobs.cancel: end these jobs, wherever they stand."""

    reason: Message | None = None


# Connections


class Register(Payload):
    """connections.register: a crawler is there; the caller chooses the id."""

    connection_id: Ulid
    crawler_id: Word | None = None
    capacity: Capacity = DEFAULT_CAPACITY
    metadata: JsonObject | None = None


ActiveJobs = Load | Annotated[list[Id], Field(max_length=1000)]
"""A count, or a list of crawler_job_ids."""


class SaidBeat(_Item):
    """One heartbeat."""

    connection_id: Ulid
    system_status: SystemStatus | Literal["processing"] | None = None
    active_jobs: ActiveJobs | None = None
    capacity: Capacity | None = None


class Heartbeat(Payload):
    """connections.heartbeat: these connections live."""

    beats: Annotated[SkipValidation[list[SaidBeat]], type_of_batch]


class Disconnect(Payload):
    """connections.disconnect: a clean goodbye."""

    connection_id: Ulid
    reason: Message | None = None


class ExpireDead(Payload):
    """connections.expire_dead: the sweep, judging as of *as_of*; without it, it is only rung."""

    as_of: AwareDatetime | None = None


# Frames


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
    output_files: Annotated[list[Path], Field(max_length=10_000)] | None = None


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


class SaidFrame(_Item):
    """A frame, and the connection that said it."""

    connection_id: Ulid
    frame: Frame


class Frames(Payload):
    """crawler.frames: what crawlers said, in the order in which they said it."""

    frames: Annotated[SkipValidation[list[SaidFrame]], type_of_batch]


# Failures and upkeep


class Failure(_Item):
    """An error of a job, to be put on record; it changes nothing else."""

    job_id: Id | None = None
    crawler_job_id: Id | None = None
    error_type: Word
    error_message: Message
    stack_trace: Trace | None = None
    context: JsonObject | None = None
    is_recoverable: bool = True

    @model_validator(mode="after")
    def _names_one_job(self) -> Self:
        if (self.job_id is None) == (self.crawler_job_id is None):
            raise PydanticCustomError("one_job", "give either job_id or crawler_job_id")
        return self


class LogFailures(Payload):
    """failures.log: put these errors on record."""

    errors: Annotated[SkipValidation[list[Failure]], type_of_batch]


class Reconcile(Payload):
    """upkeep.reconcile: compare the web app's word with ours. *more* is a continuation's."""

    more: bool = False


class CleanUp(Payload):
    """upkeep.clean_up: delete what is old. *more* is a continuation's."""

    more: bool = False


CONTRACT: dict[str, type[Payload]] = {
    "jobs.submit": Submit,
    "jobs.enqueue": Enqueue,
    "jobs.assign": Assign,
    "jobs.cancel": Cancel,
    "connections.register": Register,
    "connections.heartbeat": Heartbeat,
    "connections.disconnect": Disconnect,
    "connections.expire_dead": ExpireDead,
    "crawler.frames": Frames,
    "failures.log": LogFailures,
    "upkeep.reconcile": Reconcile,
    "upkeep.clean_up": CleanUp,
}
"""Every task by its public name."""
