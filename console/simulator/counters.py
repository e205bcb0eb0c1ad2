"""Counts what a simulated fleet does."""

from dataclasses import dataclass, field


@dataclass
class FleetCounts:
    """Written by the fleet's thread, read by any thread. The numbers are part of `demo --json`, by these names."""

    rung: int = 0
    """Messages published."""
    unheard: int = 0
    """Attempts to publish that failed; the messages were published later."""
    said: int = 0
    """Frames published."""
    repeated: int = 0
    """Of these, ends and discoveries that were published again because they were not answered in time."""
    beats: int = 0
    """Heartbeats published."""
    taken: int = 0
    """Orders that crawlers accepted."""
    resumed: int = 0
    """Of these, orders that continued where a former attempt had stopped."""
    completed: int = 0
    failed: int = 0
    """Recoverable failures."""
    failed_for_good: int = 0
    """Failures that are not recoverable."""
    dropped: int = 0
    """Attempts that were revoked while a crawler worked on them."""
    tokens_died: int = 0
    """Attempts that ended because their token had expired."""
    tokens_said: int = 0
    """Errors whose text or context contained an access token."""
    died: int = 0
    """Crawlers that died."""
    left: int = 0
    """Crawlers that disconnected."""
    froze: int = 0
    """Crawlers that froze."""
    came_back: int = 0
    """Crawlers that registered again after a freeze."""
    stale_said: int = 0
    """Frames sent by a crawler that did not know that its attempts had ended."""
    found: set[tuple[str, str]] = field(default_factory=set)
    """Path and job_type of everything that was discovered."""
    stale_fences: list[str] = field(default_factory=list)
    """The attempts that the stale frames were about."""

    @property
    def ended(self) -> int:
        """Attempts that a crawler itself ended."""
        return self.completed + self.failed + self.failed_for_good
