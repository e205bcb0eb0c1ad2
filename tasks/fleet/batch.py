"""
One message of crawlers' frames, parsed once and sorted.

A `FrameBatch` holds what the message says about connections, merged into one `Beat` each, and its frames
about attempts in their order. `AttemptFrames` holds what one connection reports about one attempt.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from persistence.fleet.connections import Beat
from persistence.schema.ids import ConnectionId, CrawlerJobId
from persistence.schema.states import SystemStatus
from tasks.contract.frames import (
    ActiveJobs,
    Discovery,
    HeartbeatFrame,
    JobCompletedFrame,
    JobFailedFrame,
    JobFrame,
    JobRequestFrame,
    TokenRefreshFrame,
)
from tasks.contract.payloads import SaidFrame
from tasks.contract.types import Ulid
from tasks.runtime.rejection import describe_error

Terminal = JobCompletedFrame | JobFailedFrame | TokenRefreshFrame
AttemptFrame = tuple[ConnectionId, JobFrame | Discovery]
"""A frame about an attempt, and the connection that sent it."""

_FRAME = TypeAdapter(SaidFrame)
_CONNECTION_ID = TypeAdapter(Ulid)


@dataclass
class AttemptFrames:
    """What one connection reports about one attempt, in the order in which it was sent."""

    connection_id: ConnectionId
    crawler_job_id: CrawlerJobId
    frames: list[JobFrame] = field(default_factory=list)
    discoveries: list[Discovery] = field(default_factory=list)
    trailing: list[JobFrame | Discovery] = field(default_factory=list)
    """Frames after the terminal one: stale, whatever they report."""
    terminal: Terminal | None = field(default=None, init=False)
    """The frame that ends the attempt."""

    @property
    def count(self) -> int:
        """The number of frames, without discoveries."""
        return len(self.frames) + len(self.trailing)

    def add(self, frame: JobFrame | Discovery) -> None:
        """Sort in one frame. A discovery may follow the end of its job, if that succeeded."""
        end = self.terminal
        if isinstance(frame, Discovery) and (
            end is None or (isinstance(end, JobCompletedFrame) and end.data.success)
        ):
            self.discoveries.append(frame)
        elif end:
            self.trailing.append(frame)
        else:
            assert not isinstance(frame, Discovery)
            self.frames.append(frame)
            self.terminal = frame if isinstance(frame, Terminal) else None


@dataclass(frozen=True)
class InvalidItem:
    """An item of a message that is not a frame."""

    item: object
    error: str
    position: int
    sender: ConnectionId | None


@dataclass
class FrameBatch:
    """The content of one message."""

    beats: dict[ConnectionId, Beat] = field(default_factory=dict)
    """Every sender, those of invalid items included."""
    frames: list[AttemptFrame] = field(default_factory=list)
    wants_work: set[ConnectionId] = field(default_factory=set)
    invalid: list[InvalidItem] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """The positions of the *frames* in the message."""

    @classmethod
    def parse(cls, items: Iterable[object]) -> "FrameBatch":
        """Validate the items of a message. Nothing else does: validation is the expensive part of a frame."""
        batch = cls()
        for position, item in enumerate(items):
            try:
                batch.add(_FRAME.validate_python(item), position)
            except (ValidationError, RecursionError) as error:
                batch.add_invalid(item, describe_error(error), position)
        return batch

    @property
    def discoveries(self) -> list[tuple[ConnectionId, Discovery]]:
        """The discoveries to apply, attempt by attempt. Those after a failure are stale."""
        attempts = group_by_attempt(self.frames)
        return [(attempt.connection_id, frame) for attempt in attempts for frame in attempt.discoveries]

    def add(self, received: SaidFrame, position: int) -> None:
        """Sort in one frame. Any frame proves that its connection is alive."""
        connection_id, frame = ConnectionId(received.connection_id), received.frame
        match frame:
            case HeartbeatFrame(data=data):
                self.add_heartbeat(connection_id, data.system_status, data.active_jobs, said_at=frame.said_at)
            case JobRequestFrame(data=data):
                self.wants_work.add(connection_id)
                self.add_heartbeat(connection_id, capacity=data.capacity, said_at=frame.said_at)
            case _:
                self.add_heartbeat(connection_id)
                self.frames.append((connection_id, frame))
                self.positions.append(position)

    def add_invalid(self, item: object, error: str, position: int) -> None:
        """Keep an item that is not a frame. If it names its sender, that connection is alive."""
        sender = _sender(item)
        self.invalid.append(InvalidItem(item, error, position, sender))
        if sender is not None:
            self.add_heartbeat(sender)

    def add_heartbeat(
        self,
        connection_id: str,
        status: SystemStatus | Literal["processing"] | None = None,
        active_jobs: ActiveJobs | None = None,
        capacity: int | None = None,
        said_at: datetime | None = None,
    ) -> None:
        """
        Merge in a sign of life, said at a time of the crawler's clock.

        The wire's status `processing` is stored as `crawling`.
        """
        jobs = active_jobs if isinstance(active_jobs, list) else None
        heartbeat = Beat(
            ConnectionId(connection_id),
            system_status=SystemStatus.CRAWLING if status == "processing" else status,
            reported=active_jobs if isinstance(active_jobs, int) else None if jobs is None else len(jobs),
            reported_jobs=jobs,
            capacity=capacity,
            reported_said_at=None if active_jobs is None else said_at,
            capacity_said_at=None if capacity is None else said_at,
        )
        earlier = self.beats.get(heartbeat.connection_id)
        self.beats[heartbeat.connection_id] = earlier.merged_with(heartbeat) if earlier else heartbeat


def group_by_attempt(frames: Iterable[AttemptFrame]) -> list[AttemptFrames]:
    """Group frames by sender and attempt, in the order in which each pair first appears."""
    by_key: dict[tuple[ConnectionId, CrawlerJobId], AttemptFrames] = {}
    for connection_id, frame in frames:
        key = connection_id, CrawlerJobId(frame.job_id)
        by_key.setdefault(key, AttemptFrames(*key)).add(frame)
    return list(by_key.values())


def _sender(item: object) -> ConnectionId | None:
    """The connection that an invalid item names."""
    named = item.get("connection_id") if isinstance(item, dict) else None
    try:
        return ConnectionId(_CONNECTION_ID.validate_python(named))
    except ValidationError:
        return None
