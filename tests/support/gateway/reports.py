"""Frames, a broker in memory, and the workers that consume from it."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from gateway.reports.broker import BrokerAwayError
from gateway.reports.message import Message
from gateway.reports.reports import Reports
from gateway.wire.protocol_1 import Frame
from persistence.exceptions import DatabaseLost
from persistence.schema.ids import ConnectionId


def said(
    kind: str, job_id: str | None, data: dict[str, Any], timestamp: str = "2026-05-01T12:00:00Z"
) -> Frame:
    """A frame, as a link hands it over."""
    frame = {"type": kind, "timestamp": timestamp, "jobId": job_id, "data": data}
    return Frame(kind, job_id, None, timestamp, json.dumps(frame).encode(), data)


class Workers:
    """A broker in memory, and what its workers have handled."""

    def __init__(self) -> None:
        self.queue: list[Message] = []
        self.published: list[Message] = []
        self.done: set[str] = set()
        self.is_away = False
        self.is_database_away = False

    async def publish(self, messages: Sequence[Message]) -> None:
        """Take messages, unless the broker is away."""
        if self.is_away:
            raise BrokerAwayError("away")
        self.take(messages)

    def take(self, messages: Sequence[Message]) -> None:
        """Take messages."""
        self.queue += messages
        self.published += messages

    async def is_queue_empty(self) -> bool:
        """True if no message waits."""
        return not self.queue

    async def handled(self, ids: Sequence[str]) -> set[str]:
        """Return those of the messages that were handled."""
        if self.is_database_away:
            raise DatabaseLost("away")
        return self.done & set(ids)

    def handle(self, message: Message | None = None) -> None:
        """Handle this message, or all that are queued."""
        for one in [message] if message else list(self.queue):
            self.queue.remove(one)
            self.done.add(one.id)


def items(message: Message) -> list[dict[str, Any]]:
    """The items of a message."""
    ((_, found),) = json.loads(message.arguments).items()
    return list(found)


def kinds(message: Message) -> list[str]:
    """The types of a message's frames."""
    return [item["frame"]["type"] for item in items(message)]


class Bench:
    """Reports without an event loop: a test publishes and looks up by hand, at a time of its own."""

    def __init__(self) -> None:
        self.workers = Workers()
        self.now = 0.0
        self.acked: list[str] = []
        self.is_queue_empty = True
        self.has_room: list[ConnectionId] = []
        self.reports = Reports(
            self.workers, self.workers, on_room=self.has_room.append, clock=lambda: self.now
        )

    def frame(self, kind: str, job_id: str, data: dict[str, Any]) -> Frame:
        """A frame, as a link hands it over."""
        return said(kind, job_id, data)

    def say(self, connection_id: str, kind: str, job_id: str, ack: str = "", **data: Any) -> bool:
        """Report a frame; its ack is then found in `acked`."""
        return self.reports.add(
            ConnectionId(connection_id), said(kind, job_id, data), self.acking(ack or kind)
        )

    def acking(self, name: str) -> Callable[[], None]:
        """Note an ack."""
        return lambda: self.acked.append(name)

    def publish(self) -> list[Message]:
        """Publish what is to be published now."""
        self.reports._in_flight.repeat(self.now, is_queue_empty=self.is_queue_empty)
        messages = self.reports._take()
        self.workers.take(messages)
        self.reports._in_flight.published(messages, self.now)
        return messages

    def look_up(self) -> None:
        """Look up what was handled."""
        found = self.workers.done & set(self.reports._in_flight.ids(1_000_000))
        self.reports._settle(self.reports._in_flight.handled(found))
