"""
The model: what each message does, as the design says it; no SQL, no clock, no look at the product's code.

What the product may choose freely (fences, ids of children, who is seated where, how long a back-off is to
the second) is read from what it did, checked against what it was allowed to do, and adopted.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from proofs.model.machine import clock
from proofs.model.machine.reached import Reached
from proofs.model.state import SCOPE, Account, Attempt, Connection, Job


@dataclass(eq=False)
class Message:
    """What somebody said to Crawlyard; it may come late, and more than once."""

    task: str
    payload: dict[str, Any]
    id: str
    as_of: float | None = None
    """Of a sweep, in the model's time."""


@dataclass(eq=False)
class Model:
    """All that is known, and what was noted on the way."""

    reached: Counter[Reached]
    now: float = 0.0
    accounts: dict[str, Account] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    connections: dict[str, Connection] = field(default_factory=dict)
    last_sweep: float | None = None
    grace_until: float | None = None
    mass_waited: bool = False
    rejected: Counter[str] = field(default_factory=Counter)
    expired: int = 0
    """Events that told a connection to register anew."""
    processed: set[str] = field(default_factory=set)

    def mark_processed(self, message: Message) -> bool:
        """Whether the message is handled for the first time."""
        if message.id in self.processed:
            self.reached[Reached.REDELIVERED] += 1
            return False
        self.processed.add(message.id)
        return True

    def reach(self, what: Reached, happened: object = "always") -> None:
        """Count a transition, if it happened."""
        if happened:
            self.reached[what] += 1

    def step(self) -> None:
        """What comes now comes after what came before."""
        self.now += clock.STEP

    def pass_time(self, ticks: int, *, swept: bool) -> None:
        """Time passes; *swept*: the sweeps went on meanwhile, and found nothing."""
        self.now += ticks
        if swept and self.last_sweep is not None:
            self.last_sweep += ticks

    # What is looked for again and again

    @property
    def active(self) -> list[Connection]:
        """The connections that are open."""
        return [c for c in self.connections.values() if c.active]

    @property
    def live(self) -> list[Attempt]:
        """The attempts that go on."""
        return [a for a in self.attempts.values() if a.is_live]

    @property
    def dispatchable(self) -> list[Job]:
        """All jobs but the web app's own."""
        return [job for job in self.jobs.values() if job.command != SCOPE]

    def is_due(self, job: Job) -> bool:
        """Whether its time has come."""
        return job.entry is not None and job.entry.due[1] <= self.now

    def twin(self, command: str, path: str | None) -> Job | None:
        """The job of this identity."""
        same = (job for job in self.jobs.values() if (job.command, job.path) == (command, path))
        return next(same, None) if path else None

    def delete(self, job: Job) -> None:
        """The job is deleted, with all that hangs on it."""
        del self.jobs[job.id]
        for attempt in job.attempts:
            del self.attempts[attempt.fence]
