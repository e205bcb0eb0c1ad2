"""What a simulated fleet did, counted."""

from dataclasses import dataclass, field


@dataclass
class FleetCounts:
    """Written by the fleet's thread, read by anybody."""

    rung: int = 0
    unheard: int = 0
    """Bells that could not be rung, and were rung again later."""
    said: int = 0
    """Frames."""
    repeated: int = 0
    """Of them, ends of jobs that were not answered in time."""
    beats: int = 0
    taken: int = 0
    resumed: int = 0
    completed: int = 0
    failed: int = 0
    """Recoverable failures."""
    failed_for_good: int = 0
    dropped: int = 0
    """Jobs that were taken away while they were worked on."""
    tokens_died: int = 0
    """Attempts that were given up since their token was not accepted any more."""
    tokens_said: int = 0
    """Errors whose text or context held an access token."""
    died: int = 0
    left: int = 0
    froze: int = 0
    came_back: int = 0
    stale_said: int = 0
    """Words that came after their attempt was over, by a crawler that did not know."""
    found: set[tuple[str, str]] = field(default_factory=set)
    """Path and job_type of everything that was discovered."""
    stale_fences: list[str] = field(default_factory=list)
    """The attempts that they were about."""

    @property
    def ended(self) -> int:
        """Attempts that a crawler itself brought to an end."""
        return self.completed + self.failed + self.failed_for_good
