"""What one message says, sorted by whom it concerns: a connection's beat, and its words on each attempt."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

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

Terminal = JobCompletedFrame | JobFailedFrame | TokenRefreshFrame


@dataclass
class AttemptFrames:
    """What one connection says of one attempt, in the order in which it was said."""

    connection_id: ConnectionId
    crawler_job_id: CrawlerJobId
    frames: list[JobFrame] = field(default_factory=list)
    discoveries: list[Discovery] = field(default_factory=list)
    trailing: list[JobFrame | Discovery] = field(default_factory=list)
    """Words behind the last one: stale, whatever they say."""
    terminal: Terminal | None = field(default=None, init=False)
    """The word that ends the attempt."""

    @property
    def count(self) -> int:
        """How many words these are, discoveries apart."""
        return len(self.frames) + len(self.trailing)

    def add(self, frame: JobFrame | Discovery) -> None:
        """One more word. The end of a job may overtake what it discovered, if it succeeded."""
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


@dataclass
class FrameBatch:
    """What is said in one message: the beats by connection, and in their order the frames about attempts."""

    beats: dict[ConnectionId, Beat] = field(default_factory=dict)
    frames: list[tuple[ConnectionId, JobFrame | Discovery]] = field(default_factory=list)
    wants_work: set[ConnectionId] = field(default_factory=set)

    def add(self, received: SaidFrame) -> None:
        """Sort in one frame; whatever it says, its connection lives."""
        connection_id, frame = ConnectionId(received.connection_id), received.frame
        match frame:
            case HeartbeatFrame(data=data):
                self.add_heartbeat(connection_id, data.system_status, data.active_jobs)
            case JobRequestFrame(data=data):
                self.wants_work.add(connection_id)
                self.add_heartbeat(connection_id, capacity=data.capacity)
            case _:
                self.add_heartbeat(connection_id)
                self.frames.append((connection_id, frame))

    def add_heartbeat(
        self,
        connection_id: str,
        status: SystemStatus | Literal["processing"] | None = None,
        active_jobs: ActiveJobs | None = None,
        capacity: int | None = None,
    ) -> None:
        """Sort in a sign of life; the wire's `processing` is `crawling`."""
        jobs = active_jobs if isinstance(active_jobs, list) else None
        heartbeat = Beat(
            ConnectionId(connection_id),
            system_status=SystemStatus.CRAWLING if status == "processing" else status,
            reported=active_jobs if isinstance(active_jobs, int) else None if jobs is None else len(jobs),
            reported_jobs=jobs,
            capacity=capacity,
        )
        earlier = self.beats.get(heartbeat.connection_id)
        self.beats[heartbeat.connection_id] = earlier.merged_with(heartbeat) if earlier else heartbeat


def group_by_attempt(frames: Iterable[tuple[ConnectionId, JobFrame | Discovery]]) -> list[AttemptFrames]:
    """The frames, sorted by who speaks of which attempt."""
    by_key: dict[tuple[ConnectionId, CrawlerJobId], AttemptFrames] = {}
    for connection_id, frame in frames:
        key = connection_id, CrawlerJobId(frame.job_id)
        by_key.setdefault(key, AttemptFrames(*key)).add(frame)
    return list(by_key.values())
