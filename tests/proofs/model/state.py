"""What the model knows: plain records of jobs, attempts, connections and accounts, and how each may change."""

from collections import Counter
from dataclasses import dataclass, field

ENDED = ("finished", "failed", "cancelled")
TO_BE_CRAWLED = ("queued", "running")
WAITING = ("waiting_credential_renewal", "credential_expired", "credential_renewed")

SUSPECT = 2
"""Losses from which a job is seated alone."""

SCOPE = "authorizationScope"
DISCOVERY = "GROUP_PROJECT_DISCOVERY"


@dataclass(eq=False)
class Account:
    """Whose jobs they are."""

    id: str
    token: int = 0
    paused: bool = False
    blocked_for: int | None = None
    """The token that died."""
    authorization_requested: bool = False
    """The web app was asked for new tokens."""
    renewed_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether its jobs may be seated."""
        return not self.paused and self.blocked_for is None


@dataclass(eq=False)
class Entry:
    """A job's place in the queue."""

    due: tuple[float, float]
    """No sooner than the one time, no later than the other."""
    priority: int = 1
    status: str = "pending"
    held: bool = False
    attempts: int = 0
    losses: int = 0
    goodbyes: int = 0
    settled_at: float | None = None
    """Or when it was last found that the job must be kept."""

    @property
    def is_suspect(self) -> bool:
        """Lost so often in a row that it may be what kills its crawlers."""
        return self.losses >= SUSPECT

    @property
    def is_open(self) -> bool:
        """Neither completed nor failed."""
        return self.status in ("pending", "processing")

    def reset(self, now: float) -> None:
        """Pending and due, with nothing counted against it."""
        self.attempts = self.losses = self.goodbyes = 0
        self.due = (now, now)
        self.unpark()

    def unpark(self) -> None:
        """Pending, and held by nobody; what was counted stays."""
        self.status, self.held, self.settled_at = "pending", False, None

    def park(self, now: float) -> None:
        """Pending, and seated by nobody. One that had ended begins anew, when it is let go."""
        if self.status == "completed":
            return
        if self.status == "failed":
            self.reset(now)
        self.status, self.held, self.settled_at = "pending", True, None

    def end(self, now: float, status: str = "failed") -> None:
        """Over; what is completed stays so."""
        if self.status != "completed":
            self.status, self.held, self.settled_at = status, False, now

    def requeue(self, now: float, wait: tuple[float, float] = (0.0, 0.0)) -> None:
        """Pending again, after a while."""
        self.status, self.settled_at = "pending", None
        self.due = (now + wait[0], now + wait[1])


@dataclass(eq=False)
class Connection:
    """One crawler's live link."""

    id: str
    capacity: int
    heartbeat_at: float
    active: bool = True
    goodbye_at: float | None = None
    reported: int = 0
    listed: list[str] | None = None
    reported_at: float | None = None
    live: "list[Attempt]" = field(default_factory=list)

    @property
    def used(self) -> int:
        """The greater of what it holds and what it says that it holds."""
        return max(len(self.live), self.reported)

    @property
    def free(self) -> int:
        """The seats that a pass may fill; where a suspect is, it is alone."""
        if not self.active or self.goodbye_at is not None:
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
    stale: int = 0
    discoveries: set[str] = field(default_factory=set)

    @property
    def is_live(self) -> bool:
        """Assigned or running."""
        return self.status in ("assigned", "running")

    def close(self, status: str) -> None:
        """Never to live again; its seat is free."""
        self.status = status
        self.connection.live.remove(self)


@dataclass(eq=False)
class Job:
    """What the web app wants crawled."""

    id: str
    account: Account
    command: str
    path: str | None
    status: str = "queued"
    entry: Entry | None = None
    attempts: list[Attempt] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    best: int = 0
    """The furthest that any attempt came."""
    finished_at: float | None = None
    parent: str | None = None

    @property
    def live(self) -> Attempt | None:
        """The attempt that goes on."""
        last = self.attempts[-1] if self.attempts else None
        return last if last and last.is_live else None

    @property
    def is_claimable(self) -> bool:
        """Whether its entry may be taken by the next pass; due is asked apart."""
        entry = self.entry
        return entry is not None and entry.status == "pending" and not entry.held and self.account.is_open

    def set_status(self, status: str, now: float) -> None:
        """Move, unless the web app's word stands: it has ended or paused the job."""
        if self.status in TO_BE_CRAWLED:
            self.status = status
            self.finished_at = now if status in ENDED else self.finished_at

    def revoke(self, ending: str = "Cancelled") -> None:
        """Close the attempt that goes on; nothing is counted, and it is on record."""
        if self.live:
            self.live.close("cancelled")
            self.errors[ending] += 1

    def requeue_ended(self, now: float, *, restart: bool) -> None:
        """Queued once more, with nothing counted; with *restart* from the start."""
        self.status, self.finished_at = "queued", None
        self.best = 0 if restart else self.best
        self.enqueue(now)

    def enqueue(self, now: float) -> None:
        """Have an entry that is due, with nothing counted against it."""
        if self.entry is None:
            self.entry = Entry((now, now))
        else:
            self.entry.reset(now)

    def sync_entry(self, now: float) -> None:
        """The entry says what the job says: ended, or held."""
        if self.status in ENDED:
            self.entry.end(now)
        else:
            self.entry.park(now)
