"""
The contract: every task's payload; the frames in it are `frames`.

Unknown fields are forbidden. A payload that is a batch is
checked item by item by whoever applies it (`Batch`), so that a bad item never costs a good one.
"""

from typing import Annotated, ClassVar, Literal, Self
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
from pydantic_core import PydanticCustomError

from persistence.schema.commands import COMMAND_OF_JOB_TYPE, Command, Provider
from persistence.schema.states import SystemStatus
from tasks.contract.frames import DEFAULT_CAPACITY, ActiveJobs, Frame
from tasks.contract.types import (
    BATCH_LIMIT,
    Capacity,
    Fingerprint,
    Id,
    JsonObject,
    Message,
    Path,
    Priority,
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
    def requested_command(self) -> Command:
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
    """Which jobs: exactly one of the choices; and why, in words of whoever wants it."""

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
        """Which choice was made, and what it names."""
        (kind,) = (choice for choice in self.choices if getattr(self, choice) is not None)
        return kind, getattr(self, kind)


class Cancel(Selection):
    """jobs.cancel: end these jobs, wherever they stand."""


class Pause(Selection):
    """jobs.pause: let these jobs wait until they are resumed; of an account also what comes later."""


class Resume(Selection):
    """jobs.resume: let these jobs go on; of an account those that wait since it is paused."""


class Retry(Selection):
    """jobs.retry: queue those of the jobs that have failed, in this time, with nothing counted against them."""

    choices: ClassVar[tuple[str, ...]] = (*Selection.choices, "error_group")

    error_group: Word | None = None
    failed_after: AwareDatetime | None = None
    failed_before: AwareDatetime | None = None


class Prioritize(Selection):
    """jobs.prioritize: give the entries of these jobs another priority."""

    priority: Priority


# Connections


class Register(Payload):
    """connections.register: a crawler is there; the caller chooses the id."""

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


class SaidFrame(_Item):
    """A frame, and the connection that said it."""

    connection_id: Ulid
    frame: Frame


class Frames(Payload):
    """crawler.frames: what crawlers said, in the order in which they said it."""

    frames: Annotated[SkipValidation[list[SaidFrame]], type_of_batch]


# Credentials


class Refresh(Payload):
    """credentials.refresh: the token of this account has died or is about to; get a new one where we can."""

    account_id: Id


class Renewed(Payload):
    """credentials.renewed: the web app has written new tokens. *more* is a continuation's."""

    account_id: Id
    more: bool = False


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


class ResolveFailures(Payload):
    """failures.resolve: say what became of the errors of one group."""

    error_group: Fingerprint
    resolution: Annotated[Message, Field(min_length=1)]


class Reconcile(Payload):
    """upkeep.reconcile: compare the web app's word with ours. *more* is a continuation's."""

    more: bool = False


class CleanUp(Payload):
    """upkeep.clean_up: delete what is old. *more* is a continuation's."""

    more: bool = False


class FeedDeferred(Payload):
    """upkeep.feed_deferred: queue deferred jobs whose accounts have room again."""


class TakeStatistics(Payload):
    """upkeep.take_statistics: count what is too dear to be counted by everybody who looks."""


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
    "connections.heartbeat": Heartbeat,
    "connections.disconnect": Disconnect,
    "connections.expire_dead": ExpireDead,
    "crawler.frames": Frames,
    "credentials.refresh": Refresh,
    "credentials.renewed": Renewed,
    "failures.log": LogFailures,
    "failures.resolve": ResolveFailures,
    "upkeep.reconcile": Reconcile,
    "upkeep.clean_up": CleanUp,
    "upkeep.feed_deferred": FeedDeferred,
    "upkeep.take_statistics": TakeStatistics,
}
"""Every task by its public name."""
