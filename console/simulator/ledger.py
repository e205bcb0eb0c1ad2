"""What the simulated web app has ordered, noted before it says so to anybody: the other side of the books."""

from dataclasses import dataclass, field


@dataclass
class OrderLog:
    """Ids of jobs, by what was done to them."""

    submitted: set[str] = field(default_factory=set)
    """Ordered through jobs.submit."""
    inserted: set[str] = field(default_factory=set)
    """Inserted by the web app itself, then rung for."""
    discovery: str = ""
    """Of these, the one that discovers what another account sees."""
    discovered: set[tuple[str, str]] = field(default_factory=set)
    """Path and command of every job that follows from it."""
    asked_to_cancel: set[str] = field(default_factory=set)
    """In either way; some had ended before it was heard."""
    cancelled_by_update: set[str] = field(default_factory=set)
    """By an UPDATE behind our back that found the job not ended: these must stay cancelled."""
    tokens: list[str] = field(default_factory=list)
    """The tokens of all accounts: none of them may be found outside of `account`."""
    repeated: int = 0
    """Orders and bells said again, since nothing had come of them yet or for good measure."""

    @property
    def ordered(self) -> set[str]:
        """All jobs that the web app itself has asked for."""
        return self.submitted | self.inserted
