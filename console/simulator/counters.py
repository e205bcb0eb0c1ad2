"""Counts what a simulated fleet does."""

from dataclasses import dataclass, field


@dataclass
class FleetCounts:
    """Written by the fleet's thread, read by any thread. The numbers are part of `demo --json`, by these names."""

    said: int = 0
    """Frames about jobs that were sent."""
    repeated: int = 0
    """Ends and discoveries that were sent again, since they had not been answered."""
    beats: int = 0
    """Heartbeats that were sent."""
    links: int = 0
    """Links that a gateway welcomed."""
    links_resumed: int = 0
    """Of these, links by which a crawler came back to its connection."""
    asked_to_reconnect: int = 0
    """Times that a gateway which was stopped asked a crawler to connect again."""
    errors: int = 0
    """Errors that gateways told crawlers."""
    undelivered: int = 0
    """Ends and discoveries that no worker saw: the crawler was told first that the attempt was not its own any more."""
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
    """Attempts that were revoked, or were others' after an interruption, while a crawler worked on them."""
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
    """Crawlers that went on after a freeze."""
    stale_said: int = 0
    """Frames sent by a crawler that did not know that its attempts had ended."""
    found: set[tuple[str, str]] = field(default_factory=set)
    """Path and job_type of everything that was discovered."""
    stale_fences: list[str] = field(default_factory=list)
    """The attempts that the stale frames were about."""
    gone_connections: set[str] = field(default_factory=set)
    """The connections of crawlers that died or froze."""
    undelivered_fences: set[str] = field(default_factory=set)
    """The attempts that they were about."""

    @property
    def ended(self) -> int:
        """Attempts that a crawler itself ended."""
        return self.completed + self.failed + self.failed_for_good
