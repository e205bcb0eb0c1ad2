"""The state that the model knows: jobs, entries, attempts, connections and accounts, and their transitions."""

from collections import Counter
from dataclasses import dataclass, field

ENDED = ("finished", "failed", "cancelled")
TO_BE_CRAWLED = ("queued", "running")
WAITING_FOR_TOKEN = ("waiting_credential_renewal", "credential_expired", "credential_renewed")

SUSPECT_LOSSES = 2
"""Losses from which a job is a suspect. Not in the contract: see Entry.is_suspect."""

AUTHORIZATION_SCOPE = "authorizationScope"
DISCOVERY = "GROUP_PROJECT_DISCOVERY"


@dataclass(eq=False)
class Account:
    """An account, with its token and what keeps its jobs from being assigned."""

    id: str
    token: int = 0
    paused: bool = False
    blocked_for: int | None = None
    """The token that died."""
    authorization_requested: bool = False
    """True once the web app was asked for new tokens."""
    renewed_at: float | None = None

    @property
    def is_open(self) -> bool:
        """
        True if its jobs may be assigned.

        jobs.pause: "None of its jobs is assigned". Tokens that died: "nothing more is assigned for it".
        """
        return not self.paused and self.blocked_for is None


@dataclass(eq=False)
class Entry:
    """The queue entry of a job."""

    due: tuple[float, float]
    """The earliest and the latest time at which it may be due."""
    priority: int = 1
    status: str = "pending"
    parked: bool = False
    attempts: int = 0
    losses: int = 0
    disconnects: int = 0
    settled_at: float | None = None
    """When it ended, or when the clean-up last found that its job must be kept."""

    @property
    def is_suspect(self) -> bool:
        """
        True if it was lost so often in a row that it may be killing its crawlers.

        Not in the contract: such a job is assigned only to a connection without other jobs.
        """
        return self.losses >= SUSPECT_LOSSES

    @property
    def is_open(self) -> bool:
        """True if it has not ended."""
        return self.status in ("pending", "processing")

    def reset(self, now: float) -> None:
        """Make it pending and due, with its counts reset (jobs.enqueue, jobs.retry)."""
        self.attempts = self.losses = self.disconnects = 0
        self.due = (now, now)
        self.unpark()

    def unpark(self) -> None:
        """Make it pending; jobs.resume: it keeps "counts and due times"."""
        self.status, self.parked, self.settled_at = "pending", False, None

    def park(self, now: float) -> None:
        """
        Park it; jobs.pause: "pending, with `held` set", and with its counts.

        Not in the contract: an entry that has completed stays completed, and one that has failed has its
        counts reset, as jobs.enqueue would reset them.
        """
        if self.status == "completed":
            return
        if self.status == "failed":
            self.reset(now)
        self.status, self.parked, self.settled_at = "pending", True, None

    def end(self, now: float, status: str = "failed") -> None:
        """End it. Not in the contract: an entry that has completed stays completed."""
        if self.status != "completed":
            self.status, self.parked, self.settled_at = status, False, now

    def requeue(self, now: float, wait: tuple[float, float] = (0.0, 0.0)) -> None:
        """Make it pending again, due after *wait*."""
        self.status, self.settled_at = "pending", None
        self.due = (now + wait[0], now + wait[1])


@dataclass(frozen=True, order=True)
class Link:
    """A link of a crawler; of two, the greater is the newer."""

    n: int
    name: str


@dataclass(eq=False)
class Connection:
    """A connection of a crawler."""

    id: str
    capacity: int
    heartbeat_at: float
    active: bool = True
    disconnected_at: float | None = None
    reported: int = 0
    listed: list[str] | None = None
    reported_at: float | None = None
    reported_said_at: str | None = None
    """By the crawler's clock, as `capacity_said_at`."""
    capacity_said_at: str | None = None
    link: Link | None = None
    gateway: str | None = None
    session: str | None = None
    lost_at: float | None = None
    live: "list[Attempt]" = field(default_factory=list)

    @property
    def used(self) -> int:
        """connections.heartbeat: "the greater of its live attempts and its reported jobs"."""
        return max(len(self.live), self.reported)

    @property
    def free(self) -> int:
        """
        How many jobs a round may assign to it.

        connections.disconnect: "The connection gets no more jobs." connections.lost: it "gets no jobs until a newer
        one is attached". Not in the contract: nor does one that works on a suspect.
        """
        if not self.active or self.disconnected_at is not None or self.lost_at is not None:
            return 0
        if any(attempt.job.entry.is_suspect for attempt in self.live):
            return 0
        return max(self.capacity - self.used, 0)


@dataclass(eq=False)
class Attempt:
    """One attempt of one job on one connection."""

    fence: str
    job: "Job"
    connection: Connection
    assigned_at: float
    status: str = "assigned"
    progressed_at: float | None = None
    absent_since: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    """The highest that it reported, by entity type."""
    has_found: bool = False
    """True if a discovery of it found something."""
    stale: int = 0
    discoveries: set[str] = field(default_factory=set)

    @property
    def is_live(self) -> bool:
        """True while it is assigned or running."""
        return self.status in ("assigned", "running")

    def close(self, status: str) -> None:
        """Close it for good, which frees its slot."""
        self.status = status
        self.connection.live.remove(self)


@dataclass(eq=False)
class Job:
    """A job of the web app."""

    id: str
    account: Account
    command: str
    path: str | None
    status: str = "queued"
    entry: Entry | None = None
    attempts: list[Attempt] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    """Rows of job_error_log, by error_type."""
    best: int = 0
    """The furthest that any attempt came."""
    finished_at: float | None = None
    parent: str | None = None

    @property
    def live(self) -> Attempt | None:
        """Its live attempt."""
        last = self.attempts[-1] if self.attempts else None
        return last if last and last.is_live else None

    @property
    def is_claimable(self) -> bool:
        """True if a round may assign it once it is due."""
        entry = self.entry
        return entry is not None and entry.status == "pending" and not entry.parked and self.account.is_open

    def set_status(self, status: str, now: float) -> None:
        """
        Change its status, unless the web app has ended or paused it.

        jobs.cancel: "what the web app writes meanwhile stands".
        """
        if self.status in TO_BE_CRAWLED:
            self.status = status
            self.finished_at = now if status in ENDED else self.finished_at

    def revoke(self, error_type: str = "Cancelled") -> None:
        """Close its live attempt; jobs.cancel: as `cancelled`, "with an error row of type `Cancelled`"."""
        if self.live:
            self.live.close("cancelled")
            self.errors[error_type] += 1

    def requeue_ended(self, now: float, *, restart: bool) -> None:
        """Queue it again with its counts reset; *restart*: without its resume_state."""
        self.status, self.finished_at = "queued", None
        self.best = 0 if restart else self.best
        self.enqueue(now)

    def enqueue(self, now: float) -> None:
        """Give it an entry that is due, with its counts reset."""
        if self.entry is None:
            self.entry = Entry((now, now))
        else:
            self.entry.reset(now)

    def sync_entry(self, now: float) -> None:
        """
        End or park its entry after a status of the web app.

        upkeep.reconcile: "If the web app has ended a job, … its entry ends. If it wrote another status …,
        the entry is parked until the job is `queued` again."
        """
        if self.status in ENDED:
            self.entry.end(now)
        else:
            self.entry.park(now)
