"""
The model: the effect of each message, as docs/contract.md states it.

It contains no SQL, no clock and no import of the product. Each rule names the section of the contract that
states it, and quotes it where the wording decides. Rules that the contract leaves open are marked as
not in the contract.

The product chooses freely the fences, the ids of children, the connection of each job, and the jitter of a
backoff. The model reads these from the database, checks that they were allowed, and adopts them.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from proofs.model import clock
from proofs.model.reached import Reached
from proofs.model.state import AUTHORIZATION_SCOPE, Account, Attempt, Connection, Job


@dataclass(eq=False)
class Message:
    """A message to Crawlyard; it may come late, and more than once."""

    task: str
    payload: dict[str, Any]
    id: str
    as_of: float | None = None
    """The as_of of a sweep, in the model's time."""
    queue: str | None = None
    """The queue to which it was pushed, if that is not its task's own."""


@dataclass(eq=False)
class Model:
    """The whole state, and which transitions led to it."""

    reached: Counter[Reached]
    now: float = 0.0
    accounts: dict[str, Account] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    connections: dict[str, Connection] = field(default_factory=dict)
    last_sweep: float | None = None
    grace_until: float | None = None
    mass_waited: bool = False
    """True after a sweep has waited because most of the fleet was silent."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Rows of rejected_message, by reason."""
    expired: int = 0
    """Events `connection_expired`."""
    processed: set[str] = field(default_factory=set)
    refused: set[tuple[str, str]] = field(default_factory=set)
    """What was rejected before its task ran: message id and reason."""

    def mark_processed(self, message: Message) -> bool:
        """
        Return True if the message comes for the first time.

        Processed once: "The same id changes nothing again."
        """
        if message.id in self.processed:
            self.reached[Reached.REDELIVERED] += 1
            return False
        self.processed.add(message.id)
        return True

    def refuse(self, message: Message, reason: str, times: int = 1) -> None:
        """
        Reject a message or items of it before its task runs; the same message again leaves nothing.

        What a producer pushes: "A task in another queue than its own is not run; it is rejected as `wrong_queue`."
        "One item of a batch, such as a frame, has at most 1 MiB. … Beyond them the message is rejected as
        `too_large` or `malformed`, or the item alone as `too_large`". Neither counts as processed.
        """
        if times and (message.id, reason) not in self.refused:
            self.refused.add((message.id, reason))
            self.rejected[reason] += times

    def reach(self, what: Reached, happened: object = "always") -> None:
        """Count a transition, if it happened."""
        if happened:
            self.reached[what] += 1

    def step(self) -> None:
        """Order what follows after what came before."""
        self.now += clock.STEP

    def pass_time(self, ticks: int, *, swept: bool) -> None:
        """Advance the time; *swept*: sweeps ran meanwhile, and found nothing."""
        self.now += ticks
        if swept and self.last_sweep is not None:
            self.last_sweep += ticks

    @property
    def active(self) -> list[Connection]:
        """The open connections."""
        return [c for c in self.connections.values() if c.active]

    @property
    def live(self) -> list[Attempt]:
        """The live attempts."""
        return [a for a in self.attempts.values() if a.is_live]

    @property
    def dispatchable(self) -> list[Job]:
        """All jobs but authorizationScope, which no command or maintenance touches (jobs.cancel)."""
        return [job for job in self.jobs.values() if job.command != AUTHORIZATION_SCOPE]

    def is_due(self, job: Job) -> bool:
        """Return True if the job's entry is due for certain."""
        return job.entry is not None and job.entry.due[1] <= self.now

    def twin(self, command: str, path: str | None) -> Job | None:
        """
        Return the job of this identity.

        jobs.submit: two orders mean the same job if they have "the same path, branch, command and GitLab host".
        The machine knows one host and no branches.
        """
        same = (job for job in self.jobs.values() if (job.command, job.path) == (command, path))
        return next(same, None) if path else None

    def delete(self, job: Job) -> None:
        """Delete the job with its entry and attempts (upkeep.clean_up)."""
        del self.jobs[job.id]
        for attempt in job.attempts:
            del self.attempts[attempt.fence]
