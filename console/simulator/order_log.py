"""
What the simulated web app ordered, recorded before it is published.

The demo's audit compares it with the database.
"""

from dataclasses import dataclass, field


@dataclass
class OrderLog:
    """Ids of jobs, by what was done to them."""

    submitted: set[str] = field(default_factory=set)
    """Ordered through jobs.submit."""
    inserted: set[str] = field(default_factory=set)
    """Inserted into `job` by the web app itself, then published through jobs.enqueue."""
    discovery: str = ""
    """The submitted job that discovers the areas of an account."""
    discovered: set[tuple[str, str]] = field(default_factory=set)
    """Path and command of every job that the discovery must spawn."""
    asked_to_cancel: set[str] = field(default_factory=set)
    """By message or by UPDATE; some had ended before the request was handled."""
    cancelled_by_update: set[str] = field(default_factory=set)
    """Cancelled by the web app's own UPDATE, which found the job not ended: these must stay cancelled."""
    tokens: list[str] = field(default_factory=list)
    """The tokens of all accounts; none may appear outside `account`."""
    repeated: int = 0
    """Orders that were published again, because they had no effect yet or to test repetition."""

    @property
    def ordered(self) -> set[str]:
        """All jobs that the web app itself asked for."""
        return self.submitted | self.inserted
