"""A message for the workers, as JSON that is spliced from the bytes of its items."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import uuid4


def nothing() -> None:
    """Do nothing."""


@dataclass(eq=False)
class Message:
    """A message. A worker processes it once, however often it is published under its id."""

    task: str
    arguments: bytes
    """Its keyword arguments: one JSON object."""
    on_handled: Callable[[], None] = nothing
    said_until: float | None = None
    """A time after which it is dropped. Only of one of which no worker notes that it was handled."""
    id: str = field(default_factory=lambda: str(uuid4()))
    published: int = 0
    """How often it was published."""
    published_at: float = 0.0
    """When that was done first."""
    published_last_at: float = 0.0
    repeat_at: float = 0.0

    @property
    def size(self) -> int:
        """Bytes of its arguments."""
        return len(self.arguments)


def batch(name: str, items: Sequence[bytes]) -> bytes:
    """The arguments of a task that takes a list of items, each of them JSON."""
    return b'{"%b":[%b]}' % (name.encode(), b",".join(items))


def frame_item(connection_id: str, raw: bytes) -> bytes:
    """An item of `crawler.frames`. *raw* is the frame's JSON, which the caller has parsed: it is not checked."""
    return b'{"connection_id":"%b","frame":%b}' % (connection_id.encode(), raw)
