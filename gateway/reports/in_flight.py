"""
Messages that are published and not known to be handled.

One that Redis lost is published again under the same id, and a worker that has processed it already changes nothing.
That costs the worker as much as reading the message, so it is not done while messages wait in the queue, among which
it may be: workers that catch up would get all of them several times.
"""

from collections.abc import Collection, Iterable
from itertools import islice
from math import inf

from gateway.reports.message import Message

FIRST_REPEAT_S = 2.0
LONGEST_REPEAT_S = 120.0
"""Workers that are away for long find few copies of a message."""

PATIENCE_S = 60.0
"""A message that is not handled for so long is published again though others wait."""
POSTPONED_S = 1.0


class InFlight:
    """The messages by id; of those that were looked up, the ones looked up last are at the end."""

    def __init__(self) -> None:
        self._messages: dict[str, Message] = {}
        self._next_repeat_at = inf
        self._again: dict[str, Message] = {}
        """Those to be published again now."""

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
            message.published_last_at = now
            self._add(message, now + pause)

    def failed(self, messages: Iterable[Message]) -> None:
        """Note messages of which it is unknown whether they were published: they are published again first of all."""
        for message in messages:
            self._add(message, inf)
            self._again[message.id] = message

    @property
    def has_again(self) -> bool:
        """True if there are messages to be published again now."""
        return bool(self._again)

    def is_due(self, now: float) -> bool:
        """True if it is time to publish messages again."""
        return now >= self._next_repeat_at

    def repeat(self, now: float, *, is_queue_empty: bool) -> None:
        """Let due messages be published again; while others wait in their queue, only those that have waited long."""
        for message in [m for m in self._messages.values() if m.repeat_at <= now]:
            if is_queue_empty or now - message.published_last_at >= PATIENCE_S:
                message.repeat_at = inf
                self._again[message.id] = message
            else:
                message.repeat_at = now + POSTPONED_S
        self._next_repeat_at = min((m.repeat_at for m in self._messages.values()), default=inf)

    def take_again(self, now: float, limit: int) -> list[Message]:
        """Return messages to publish again, and drop those that are not said any more."""
        messages: list[Message] = []
        while self._again and len(messages) < limit:
            id_, message = next(iter(self._again.items()))
            del self._again[id_]
            if message.said_until is not None and message.said_until <= now:
                del self._messages[id_]
            else:
                messages.append(message)
        return messages

    def ids(self, limit: int) -> list[str]:
        """Return the ids of messages to look up. The next call returns others, if there are more."""
        ids = list(islice(self._messages, limit))
        if len(ids) < len(self._messages):
            for id_ in ids:
                self._messages[id_] = self._messages.pop(id_)
        return ids

    def handled(self, ids: Collection[str]) -> list[Message]:
        """Forget messages; returns those that were in flight."""
        for id_ in ids:
            self._again.pop(id_, None)
        return [message for id_ in ids if (message := self._messages.pop(id_, None))]

    def _add(self, message: Message, repeat_at: float) -> None:
        message.repeat_at = repeat_at
        self._next_repeat_at = min(self._next_repeat_at, repeat_at)
        self._messages.setdefault(message.id, message)
