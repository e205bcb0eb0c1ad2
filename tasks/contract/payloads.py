"""
The payload of every task; `frames` has the frames that some of them contain.

Unknown fields are refused. A task validates the items of a batch one by one (`type_of_batch`), so that an invalid
item does not affect the valid ones.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SkipValidation,
    model_validator,
)
from pydantic_core import PydanticCustomError

from persistence.origin import origin_of
from persistence.schema.commands import COMMAND_OF_JOB_TYPE, Command, Provider
from persistence.schema.states import SystemStatus
from tasks.contract.frames import DEFAULT_CAPACITY, ActiveJobs, Frame, Timestamp
from tasks.contract.types import (
    BATCH_LIMIT,
    CHANGES_LIMIT,
    Capacity,
    Fingerprint,
    Id,
    JsonObject,
    Message,
    Path,
    Priority,
    Sha256,
    Trace,
    Ulid,
    Word,
    type_of_batch,
)


class Payload(BaseModel):
    """The keyword arguments of a task."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Item(Payload):
    """An item of a batch."""


# Jobs


def _host_url(host: str) -> str:
    """Normalize a GitLab instance to its origin; the default scheme is https."""
    origin = origin_of(host if "://" in host else f"https://{host}")
    if origin is None:
        raise PydanticCustomError("not_a_host", "must be a host, or an http(s) URL without credentials")
    return origin


class Order(_Item):
    """One job that the web app wants crawled."""

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
    def requested_command(self) -> Command:
        """What is to be crawled."""
        return self.command or COMMAND_OF_JOB_TYPE[self.job_type or ""]


class Submit(Payload):
    """jobs.submit: create these jobs and queue them."""

    orders: Annotated[SkipValidation[list[Order]], type_of_batch]


class Enqueue(Payload):
    """jobs.enqueue: queue these jobs, which the web app has inserted itself."""

    job_ids: Annotated[SkipValidation[list[Id]], type_of_batch]


class Assign(Payload):
    """jobs.assign: run one assignment round."""


class Selection(Payload):
    """The jobs that a command applies to, by exactly one of the choices; and the reason for the command."""

    choices: ClassVar[tuple[str, ...]] = ("job_ids", "account_id", "area", "subtree_of")

    job_ids: Annotated[list[Id], Field(min_length=1, max_length=BATCH_LIMIT)] | None = None
    account_id: Id | None = None
    area: Path | None = None
    subtree_of: Id | None = None
    reason: Message | None = None

    @model_validator(mode="after")
    def _check_one_choice(self) -> Self:
        if sum(getattr(self, choice) is not None for choice in self.choices) != 1:
            raise PydanticCustomError("one_selection", f"give one of {', '.join(self.choices)}")
        return self

    @property
    def choice(self) -> tuple[str, object]:
        """The field that is set, and its value."""
        (kind,) = (choice for choice in self.choices if getattr(self, choice) is not None)
        return kind, getattr(self, kind)


class Cancel(Selection):
    """jobs.cancel: cancel these jobs, whatever their state."""


class Pause(Selection):
    """jobs.pause: pause these jobs until they are resumed; with account_id, future jobs of the account too."""


class Resume(Selection):
    """jobs.resume: resume these jobs; with account_id, the account and the jobs that its pause keeps waiting."""


class Retry(Selection):
    """jobs.retry: queue failed jobs among these again, with attempts, losses and disconnects reset to 0."""

    choices: ClassVar[tuple[str, ...]] = (*Selection.choices, "error_group")

    error_group: Word | None = None
    failed_after: AwareDatetime | None = None
    failed_before: AwareDatetime | None = None


class Prioritize(Selection):
    """jobs.prioritize: change the priority of these jobs' entries."""

    priority: Priority


# Connections


class Register(Payload):
    """connections.register: open a crawler's connection under an id that the caller chose."""

    connection_id: Ulid
    crawler_id: Word | None = None
    capacity: Capacity = DEFAULT_CAPACITY
    metadata: JsonObject | None = None


class SaidBeat(_Item):
    """One heartbeat."""

    connection_id: Ulid
    system_status: SystemStatus | Literal["processing"] | None = None
    active_jobs: ActiveJobs | None = None
    capacity: Capacity | None = None
    timestamp: Timestamp | None = None


class Heartbeat(Payload):
    """connections.heartbeat: these connections are alive."""

    beats: Annotated[SkipValidation[list[SaidBeat]], type_of_batch]


class Disconnect(Payload):
    """connections.disconnect: close a connection cleanly."""

    connection_id: Ulid
    reason: Message | None = None


class SaidLink(_Item):
    """One link of a crawler to a gateway."""

    connection_id: Ulid
    crawler_id: Word | None = None
    n: Annotated[int, Field(ge=0, lt=2**63, strict=True)]
    link: Id
    gateway: Word
    capacity: Capacity = DEFAULT_CAPACITY
    session_hash: Sha256
    credential_id: Id | None = None


class Attach(Payload):
    """connections.attach: these connections are reached over new links; those that are not there yet are opened."""

    links: Annotated[SkipValidation[list[SaidLink]], type_of_batch]


class Lost(Payload):
    """connections.lost: a link has ended without a goodbye."""

    connection_id: Ulid
    n: Annotated[int, Field(ge=0, lt=2**63, strict=True)]
    link: Id


class ExpireDead(Payload):
    """connections.expire_dead: expire the connections silent at as_of; without it, publish a sweep as of now."""

    as_of: AwareDatetime | None = None


# Frames


class SaidFrame(_Item):
    """A frame, and the connection that sent it."""

    connection_id: Ulid
    frame: Frame


class Frames(Payload):
    """crawler.frames: frames of crawlers, in the order in which they were sent."""

    frames: Annotated[SkipValidation[list[SaidFrame]], type_of_batch]


# Credentials


class Refresh(Payload):
    """credentials.refresh: refresh the token of this account, which no longer works or is about to expire."""

    account_id: Id


class Renewed(Payload):
    """credentials.renewed: the web app has written new tokens. Set more=true only in a continuation."""

    account_id: Id
    more: bool = False


# Failures and maintenance


class Failure(_Item):
    """An error of a job for the error log; it does not change the job."""

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
    """failures.log: add these errors to the error log."""

    errors: Annotated[SkipValidation[list[Failure]], type_of_batch]


class ResolveFailures(Payload):
    """failures.resolve: set the resolution of all errors of one group."""

    error_group: Fingerprint
    resolution: Annotated[Message, Field(min_length=1)]


class DecideAreaChanges(Payload):
    """areas.decide: make these proposed changes of areas, or reject them."""

    change_ids: Annotated[list[Ulid], Field(min_length=1, max_length=CHANGES_LIMIT)]
    accept: bool


class Reconcile(Payload):
    """upkeep.reconcile: follow changes that the web app made to jobs. Set more=true only in a continuation."""

    more: bool = False


class CleanUp(Payload):
    """upkeep.clean_up: delete old rows. Set more=true only in a continuation."""

    more: bool = False


class FeedDeferred(Payload):
    """upkeep.feed_deferred: queue deferred jobs of accounts that are below pending_cap again."""


class TakeStatistics(Payload):
    """upkeep.take_statistics: count the figures that are too expensive to count on every request."""


CONTRACT: dict[str, type[Payload]] = {
    "jobs.submit": Submit,
    "jobs.enqueue": Enqueue,
    "jobs.assign": Assign,
    "jobs.cancel": Cancel,
    "jobs.pause": Pause,
    "jobs.resume": Resume,
    "jobs.retry": Retry,
    "jobs.prioritize": Prioritize,
    "connections.register": Register,
    "connections.attach": Attach,
    "connections.lost": Lost,
    "connections.heartbeat": Heartbeat,
    "connections.disconnect": Disconnect,
    "connections.expire_dead": ExpireDead,
    "crawler.frames": Frames,
    "credentials.refresh": Refresh,
    "credentials.renewed": Renewed,
    "failures.log": LogFailures,
    "failures.resolve": ResolveFailures,
    "areas.decide": DecideAreaChanges,
    "upkeep.reconcile": Reconcile,
    "upkeep.clean_up": CleanUp,
    "upkeep.feed_deferred": FeedDeferred,
    "upkeep.take_statistics": TakeStatistics,
}
"""The payload of every task, by the task's public name."""
