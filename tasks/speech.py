"""What one message says, sorted by whom it concerns: a connection's beat, and its words on each attempt."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from persistence.connections import Beat
from persistence.schema.vocabulary import ConnectionId, CrawlerJobId, SystemStatus
from tasks.messages import (
    ActiveJobs,
    HeartbeatFrame,
    JobCompletedFrame,
    JobFailedFrame,
    JobFrame,
    JobRequestFrame,
    SaidFrame,
)

Terminal = JobCompletedFrame | JobFailedFrame


@dataclass
class Words:
    """What one connection says of one attempt, in the order in which it was said."""

    connection_id: ConnectionId
    crawler_job_id: CrawlerJobId
    frames: list[JobFrame] = field(default_factory=list)
    late: int = 0
    """Words behind the last one: stale, whatever they say."""

    @property
    def terminal(self) -> Terminal | None:
        """The word that ends the attempt."""
        last = self.frames[-1]
        return last if isinstance(last, JobCompletedFrame | JobFailedFrame) else None

    @property
    def count(self) -> int:
        """How many words these are."""
        return len(self.frames) + self.late

    def add(self, frame: JobFrame) -> None:
        """One more word."""
        if self.frames and self.terminal:
            self.late += 1
        else:
            self.frames.append(frame)


@dataclass
class Speech:
    """The frames of one message, by connection and by attempt."""

    beats: dict[ConnectionId, Beat] = field(default_factory=dict)
    words: dict[tuple[ConnectionId, CrawlerJobId], Words] = field(default_factory=dict)
    wants_work: set[ConnectionId] = field(default_factory=set)

    def hear(self, said: SaidFrame) -> None:
        """Sort in one frame."""
        connection_id, frame = ConnectionId(said.connection_id), said.frame
        match frame:
            case HeartbeatFrame(data=data):
                self.beats[connection_id] = beat(
                    connection_id, data.system_status, data.active_jobs, self._capacity(connection_id)
                )
            case JobRequestFrame(data=data):
                self.wants_work.add(connection_id)
                self.proves_life(connection_id)
                heard = self.beats[connection_id]
                self.beats[connection_id] = Beat(**{**vars(heard), "capacity": data.capacity})
            case _:
                self.proves_life(connection_id)
                attempt = CrawlerJobId(frame.job_id)
                self.words.setdefault((connection_id, attempt), Words(connection_id, attempt)).add(frame)

    def proves_life(self, connection_id: ConnectionId) -> None:
        """Whatever it says, it lives."""
        self.beats.setdefault(connection_id, Beat(connection_id))

    def _capacity(self, connection_id: ConnectionId) -> int | None:
        return self.beats[connection_id].capacity if connection_id in self.beats else None


def hear(frames: Iterable[SaidFrame]) -> Speech:
    """Sort the frames of a message."""
    speech = Speech()
    for frame in frames:
        speech.hear(frame)
    return speech


def beat(
    connection_id: ConnectionId, status: str | None, active_jobs: ActiveJobs | None, capacity: int | None
) -> Beat:
    """A heartbeat as it is stored; the wire's `processing` is `crawling`."""
    jobs = active_jobs if isinstance(active_jobs, list) else None
    return Beat(
        connection_id,
        system_status=SystemStatus.CRAWLING if status == "processing" else status,
        reported=len(jobs) if jobs is not None else active_jobs if isinstance(active_jobs, int) else None,
        reported_jobs=jobs,
        capacity=capacity,
    )
