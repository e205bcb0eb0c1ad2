"""What a simulated crawler has of whatever connects it: its session, and what that tells it."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

ENDS = ("job_completed", "job_failed", "token_refresh_request")
"""Frames that end an attempt."""


@dataclass(frozen=True)
class Order:
    """One try of one job, as the wire's job_response has it."""

    fence: str
    """The `id` of the order, which every frame about the job must contain."""
    entity_type: str
    entity_id: str | None
    gitlab_url: str | None
    resume_state: dict[str, Any] | None
    access_token: str | None = field(repr=False)


class LinkedCrawler(Protocol):
    """The crawler, seen by its session."""

    name: str
    capacity: int

    def fences(self) -> list[str]:
        """The fences of the attempts that it works on."""

    def accept(self, order: Order) -> None:
        """Start to work on an order that it does not know."""

    def revoke(self, fence: str) -> None:
        """Stop working on an order that was revoked."""

    def keep_only(self, fences: Collection[str]) -> None:
        """Stop working on all orders but these: others have them."""

    def on_undelivered(self, fence: str) -> None:
        """Note that an end or a discovery will not be passed on: the attempt is not this connection's any more."""


class Session(Protocol):
    """A crawler's session. It connects again by itself, and takes another connection where its own was closed."""

    @property
    def is_open(self) -> bool:
        """True if the crawler is connected, as far as is known."""

    @property
    def connection_id(self) -> str:
        """The id of its connection, the last one if it has none now; empty before the first."""

    @property
    def is_given_up(self) -> bool:
        """True if the connection of a frozen crawler was closed; the crawler does not know that yet."""

    def send(self, kind: str, fence: str, **data: Any) -> None:
        """Send a frame about a job; an end or a discovery is repeated until it is answered."""

    def has_unapplied(self, fence: str) -> bool:
        """True if the job cannot be completed yet, since its discoveries may not have been applied."""

    def freeze(self) -> None:
        """Send no heartbeat and read nothing until `wake_up`; the link stays."""

    def wake_up(self) -> None:
        """Go on as if nothing had happened."""

    def leave(self) -> None:
        """End with a goodbye."""

    def die(self) -> None:
        """End without a word: the process is gone, and its link with it."""


class Sessions(Protocol):
    """All sessions of a fleet. Used from one thread, which calls `step` again and again."""

    @property
    def unsent(self) -> int:
        """The number of frames that are not sent, or not answered, yet."""

    def open(self, crawler: LinkedCrawler) -> Session:
        """Begin a session under a new connection; orders arrive once it is there."""

    def step(self, seconds: float) -> None:
        """Do everything that is due, and wait for up to *seconds* for more."""

    def close(self) -> None:
        """End: every process of the fleet is gone."""
