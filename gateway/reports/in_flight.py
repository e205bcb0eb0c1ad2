"""
Messages that are published and not known to be handled.

One that Redis lost is published again under the same id, and a worker that has processed it already changes nothing.
"""

from collections.abc import Collection, Iterable
from itertools import islice
from math import inf

from gateway.reports.message import Message

FIRST_REPEAT_S = 2.0
LONGEST_REPEAT_S = 120.0
"""Workers that are away for long find few copies of a message."""


class InFlight:
    """The messages by id; of those that were looked up, the ones looked up last are at the end."""

    def __init__(self) -> None:
        self._messages: dict[str, Message] = {}
        self._next_repeat_at = inf

    def __len__(self) -> int:
        return len(self._messages)

    def taken(self, messages: Iterable[Message]) -> None:
        """Note messages that are being published."""
        for message in messages:
            self._add(message, inf)

    def published(self, messages: Iterable[Message], now: float) -> None:
        """Note that messages were published."""
        for message in messages:
            if message.said_until is not None:
                self._messages.pop(message.id, None)
                continue
            pause = min(FIRST_REPEAT_S * 2**message.published, LONGEST_REPEAT_S)
            message.published_at = message.published_at if message.published else now
            message.published += 1
            self._add(message, now + pause)

    def failed(self, messages: Iterable[Message], now: float) -> None:
        """Note messages of which it is unknown whether they were published."""
        for message in messages:
            self._add(message, now)

    def due(self, now: float, limit: int) -> list[Message]:
        """Return messages that are to be published again, and drop those that are not said any more."""
        if now < self._next_repeat_at:
            return []
        for message in [
            m for m in self._messages.values() if m.said_until is not None and m.said_until <= now
        ]:
            del self._messages[message.id]
        due = [message for message in self._messages.values() if message.repeat_at <= now]
        waiting = (message.repeat_at for message in self._messages.values() if message.repeat_at > now)
        self._next_repeat_at = now if due else min(waiting, default=inf)
        return due[:limit]

    def ids(self, limit: int) -> list[str]:
        """Return the ids of messages to look up. The next call returns others, if there are more."""
        ids = list(islice(self._messages, limit))
        if len(ids) < len(self._messages):
            for id_ in ids:
                self._messages[id_] = self._messages.pop(id_)
        return ids

    def handled(self, ids: Collection[str]) -> list[Message]:
        """Forget messages; returns those that were in flight."""
        return [message for id_ in ids if (message := self._messages.pop(id_, None))]

    def _add(self, message: Message, repeat_at: float) -> None:
        message.repeat_at = repeat_at
        self._next_repeat_at = min(self._next_repeat_at, repeat_at)
        self._messages.setdefault(message.id, message)
