"""
Protocol 1, which crawlers and gateways speak: the frames that `frames` does not have, and all of either side.

docs/wire-protocol.md specifies it. A gateway passes on frames about jobs as `frames` has them; an `id` is for it alone.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, Union

from pydantic import Field, TypeAdapter, create_model

from tasks.contract.frames import (
    ActiveJobs,
    DiscoveryFrame,
    HeartbeatData,
    JobCompletedFrame,
    JobFailedFrame,
    JobProgressFrame,
    JobRequestData,
    JobsDiscoveredFrame,
    JobStartedFrame,
    ResumeState,
    TokenRefreshFrame,
    Wire,
)
from tasks.contract.types import Capacity, Count, Id, Message, Number, Word

PROTOCOL = 1

Opaque = Annotated[str, Field(min_length=1, max_length=200)]
"""A text that only the gateway reads: a secret, a session."""
Nonce = Annotated[str, Field(max_length=64)]


class _Envelope(Wire):
    timestamp: datetime | None = None
    """The sender's clock."""


class HelloData(Wire):
    """Who is there."""

    protocol: Literal[1]
    crawler_id: Word
    """Which process, of those with the same secret."""
    n: Count
    """The crawler's number for this link, raised at every attempt to connect, answered or not."""
    secret: Opaque | None = None
    session: Opaque | None = None
    """As the last welcome had it; without one the crawler has just been started."""
    capacity: Capacity | None = None
    active_jobs: ActiveJobs | None = None


class HelloFrame(_Envelope):
    """The first frame of a link."""

    type: Literal["hello"]
    data: HelloData


class SentHeartbeatFrame(_Envelope):
    """The crawler is alive, and works on these jobs."""

    type: Literal["heartbeat"]
    data: HeartbeatData = HeartbeatData()


class SentJobRequestFrame(_Envelope):
    """How many jobs the crawler works on at once, from now on."""

    type: Literal["job_request"]
    data: JobRequestData = JobRequestData()


class GoodbyeData(Wire):
    """Why the crawler leaves."""

    reason: Message | None = None


class GoodbyeFrame(_Envelope):
    """A clean end: the session is over, and the jobs go to others."""

    type: Literal["goodbye"]
    data: GoodbyeData = GoodbyeData()


class NonceData(Wire):
    """What a pong repeats of its ping."""

    nonce: Nonce


class PingFrame(_Envelope):
    """Asks the other side for a pong."""

    type: Literal["ping"]
    data: NonceData


class PongFrame(_Envelope):
    """Answers a ping."""

    type: Literal["pong"]
    data: NonceData


class OrderedJob(Wire):
    """One try of one job."""

    id: Id
    """The crawler_job_id: the jobId of all frames about it."""
    entity_type: Word
    entity_id: str | None
    """None: all that the account may see."""
    gitlab_url: str
    access_token: str
    resume_state: ResumeState | None = None


class WelcomeData(Wire):
    """Which connection the crawler has."""

    connection_id: Id
    session: Opaque
    jobs: list[OrderedJob]
    """All that the crawler holds; what it works on and is not listed, it drops."""
    heartbeat_interval: Number
    """In seconds."""
    max_frame_bytes: Count


class WelcomeFrame(_Envelope):
    """The answer to hello."""

    type: Literal["welcome"]
    data: WelcomeData


class JobResponseData(Wire):
    """What is to be done."""

    jobs: list[OrderedJob]


class JobResponseFrame(_Envelope):
    """Orders."""

    type: Literal["job_response"]
    data: JobResponseData


class RevokedData(Wire):
    """Why an order was revoked."""

    reason: str


class JobRevokedFrame(_Envelope):
    """An order that the crawler drops."""

    type: Literal["job_revoked"]
    job_id: Id
    data: RevokedData


class AckData(Wire):
    """Which frame was handled."""

    id: Id


class AckFrame(_Envelope):
    """A frame has been handled, and the crawler may forget it."""

    type: Literal["ack"]
    data: AckData


class ShutdownData(Wire):
    """When the link closes, and when to connect again."""

    graceful: bool
    timeout_seconds: Number
    reason: str
    reconnect_after_seconds: Number


class ShutdownFrame(_Envelope):
    """The gateway is about to close the link."""

    type: Literal["shutdown"]
    data: ShutdownData


class ErrorData(Wire):
    """What was wrong."""

    code: Word
    message: str
    closes: bool
    """True if the gateway closes the link."""
    id: Id | None = None
    """Of the frame that was refused."""
    retry_after_seconds: Number | None = None


class ErrorFrame(_Envelope):
    """A frame, or the link, was refused."""

    type: Literal["error"]
    data: ErrorData


_ABOUT_JOBS = (
    JobStartedFrame, JobProgressFrame, JobsDiscoveredFrame, DiscoveryFrame,
    JobCompletedFrame, JobFailedFrame, TokenRefreshFrame,
)  # fmt: skip


def _with_id(frame: Any) -> Any:
    return create_model(f"Sent{frame.__name__}", __base__=frame, __doc__=frame.__doc__, id=(Id | None, None))


_SENT = (
    HelloFrame, SentHeartbeatFrame, SentJobRequestFrame, GoodbyeFrame, PingFrame, PongFrame,
    *map(_with_id, _ABOUT_JOBS),
)  # fmt: skip
_RECEIVED = (
    WelcomeFrame, JobResponseFrame, JobRevokedFrame, AckFrame, ShutdownFrame, ErrorFrame, PingFrame, PongFrame,
)  # fmt: skip


def _adapter(frames: tuple[Any, ...]) -> TypeAdapter[Any]:
    union: Any = Union[frames]  # noqa: UP007 - they are not known before
    return TypeAdapter(Annotated[union, Field(discriminator="type")])


CRAWLER_FRAME = _adapter(_SENT)
"""What a crawler sends."""
GATEWAY_FRAME = _adapter(_RECEIVED)
"""What a gateway sends."""
