"""
The frames of links, collected into messages, in an order in which workers may apply them.

Messages may overtake each other, on the broker and between workers. Frames that end nothing may be applied in any
order. The end of an attempt must be applied last: it travels in one message with the frames before it, or waits until
all messages with such frames are handled.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from gateway.reports.discovery import KINDS, split
from gateway.reports.message import Message, batch, frame_item
from persistence.schema.ids import ConnectionId

MESSAGE_FRAMES: Final = 500
MESSAGE_BYTES: Final = 512 * 1024

_PRESSED_FRAMES: Final = 4 * MESSAGE_FRAMES
_PRESSED_BYTES: Final = 4 * MESSAGE_BYTES

ENDS: Final = frozenset({"job_completed", "job_failed", "token_refresh_request"})
"""Frames that end an attempt."""

_PROGRESS: Final = "job_progress"
_RESUME: Final = ("resumeState", "resume_state")


class AttemptKey(NamedTuple):
    """An attempt, as one connection speaks of it."""

    connection_id: ConnectionId
    job_id: str | None


@dataclass(eq=False)
class Report:
    """A frame on its way."""

    key: AttemptKey
    kind: str
    items: list[bytes]
    """One item of a message, or each part of a discovery."""
    data: Mapping[str, Any]
    on_handled: list[Callable[[], None]]
    may_go: bool = False
    """True if it has waited for the frames before it."""
    unhandled: int = field(init=False)
    """How many of its items are not handled."""

    def __post_init__(self) -> None:
        self.unhandled = len(self.items)

    @property
    def size(self) -> int:
        """Bytes of all items."""
        return len(self.items[0]) if len(self.items) == 1 else sum(map(len, self.items))


@dataclass
class _Attempt:
    in_flight: set[Message] = field(default_factory=set)
    end: Report | None = None
    """The end that was reported and is not handled."""
    held: list[Report] = field(default_factory=list)
    """The end, if it waits, and what was reported after it."""
    waits_for: set[Message] = field(default_factory=set)
    discovering: Message | None = None
    """A discovery, or a part of one, that is in flight."""
    discoveries: deque[tuple[Report, bytes]] = field(default_factory=deque)
    """Those that wait for it: workers that apply two for one attempt would only keep each other waiting."""
    progress: Report | None = None
    """Its newest report of progress, if that was not taken yet."""
    unhandled: int = 0


@dataclass
class Held:
    """What is held of one connection, or of all."""

    frames: int = 0
    bytes: int = 0

    def add(self, report: Report, sign: int = 1) -> None:
        """Count a report, or take it off."""
        self.frames += sign
        self.bytes += sign * report.size


class Outbox:
    """The frames that are not known to be handled."""

    def __init__(self, on_drained: Callable[[ConnectionId], None]) -> None:
        """*on_drained* is called with a connection of which nothing is held any more."""
        self._on_drained = on_drained
        self._unsent: deque[Report] = deque()
        self._unsent_bytes = 0
        self._ready: deque[Message] = deque()
        """Discoveries that have waited for others of their attempts."""
        self._attempts: dict[AttemptKey, _Attempt] = {}
        self._connections: dict[ConnectionId, Held] = {}
        self.held = Held()
        """All that is held, until it is handled."""
        self.replaces = False
        """True while a newer report of progress replaces an unsent one."""

    def __bool__(self) -> bool:
        return bool(self._unsent or self._ready)

    @property
    def is_full(self) -> bool:
        """True if there is enough for a message."""
        return len(self._unsent) >= MESSAGE_FRAMES or self._unsent_bytes >= MESSAGE_BYTES

    @property
    def is_pressed(self) -> bool:
        """True if more has come in than is published at once."""
        return len(self._unsent) >= _PRESSED_FRAMES or self._unsent_bytes >= _PRESSED_BYTES

    def held_of(self, connection_id: ConnectionId) -> Held:
        """What is held of one connection."""
        return self._connections.get(connection_id, _NOTHING)

    def add(
        self,
        key: AttemptKey,
        kind: str,
        raw: bytes,
        frame: Mapping[str, Any],
        on_handled: Callable[[], None],
    ) -> None:
        """
        Add a frame; *on_handled* is called once a worker has handled it.

        An end that is said again before it is handled is not sent again.
        """
        attempt = self._attempts.setdefault(key, _Attempt())
        if kind in ENDS and attempt.end:
            attempt.end.on_handled.append(on_handled)
            return
        raws = split(kind, raw, frame) if kind in KINDS else [raw]
        data = frame.get("data") or {}
        report = Report(key, kind, [frame_item(key.connection_id, r) for r in raws], data, [on_handled])
        if self.replaces and attempt.progress and _replaces(attempt.progress, report):
            self._replace(attempt.progress, report)
            return
        self._count(report)
        attempt.unhandled += 1
        if kind in ENDS:
            attempt.end = report
        attempt.progress = report if kind == _PROGRESS else None
        self._unsent.append(report)
        self._unsent_bytes += report.size

    def take(self, limit: int) -> list[Message]:
        """Return up to about *limit* messages to publish, as many as there is something to put into."""
        messages: list[Message] = []
        while self._ready and len(messages) < limit:
            messages.append(self._ready.popleft())
        filling = _Filling()
        while self._unsent and len(messages) < limit:
            report = self._unsent.popleft()
            self._unsent_bytes -= report.size
            attempt = self._attempts[report.key]
            if attempt.progress is report:
                attempt.progress = None
            if report.kind in KINDS:
                attempt.discoveries.extend((report, item) for item in report.items)
                if not attempt.discovering:
                    messages.append(self._next_discovery(attempt))
                continue
            if filling.reports and not filling.has_room_for(report):
                messages.append(self._finish(filling))
                filling = _Filling()
            if self._must_wait(report, attempt, filling.message):
                attempt.held.append(report)
                continue
            filling.add(report)
            attempt.in_flight.add(filling.message)
        if filling.reports:
            messages.append(self._finish(filling))
        return messages

    def _must_wait(self, report: Report, attempt: _Attempt, filling: Message) -> bool:
        """True if a report must wait for frames before it."""
        if report.may_go:
            return False
        if attempt.held:
            return True
        if report.kind in ENDS and attempt.in_flight - {filling}:
            attempt.waits_for = set(attempt.in_flight)
            return True
        return False

    def _finish(self, filling: "_Filling") -> Message:
        message, reports = filling.message, filling.reports
        message.arguments = batch("frames", [report.items[0] for report in reports])
        message.on_handled = lambda: self._handled(message, reports)
        return message

    def _next_discovery(self, attempt: _Attempt) -> Message:
        report, item = attempt.discoveries.popleft()
        message = Message("crawler.frames", batch("frames", [item]))
        message.on_handled = lambda: self._handled(message, [report])
        attempt.in_flight.add(message)
        attempt.discovering = message
        return message

    def _handled(self, message: Message, reports: list[Report]) -> None:
        for report in reports:
            attempt = self._attempts[report.key]
            attempt.in_flight.discard(message)
            attempt.waits_for.discard(message)
            if attempt.discovering is message:
                self._discover_on(attempt)
            if attempt.held and not attempt.waits_for:
                self._release(attempt)
            report.unhandled -= 1
            if report.unhandled == 0:
                self._settle(report, attempt)

    def _discover_on(self, attempt: _Attempt) -> None:
        attempt.discovering = None
        if attempt.discoveries:
            message = self._next_discovery(attempt)
            self._ready.append(message)
            if attempt.held:
                attempt.waits_for.add(message)

    def _settle(self, report: Report, attempt: _Attempt) -> None:
        if attempt.end is report:
            attempt.end = None
        attempt.unhandled -= 1
        if not attempt.unhandled:
            del self._attempts[report.key]
        self._count(report, -1)
        connection_id = report.key.connection_id
        if not self._connections[connection_id].frames:
            del self._connections[connection_id]
            self._on_drained(connection_id)
        for on_handled in report.on_handled:
            on_handled()

    def _release(self, attempt: _Attempt) -> None:
        for report in attempt.held:
            report.may_go = True
            self._unsent_bytes += report.size
        self._unsent.extendleft(reversed(attempt.held))
        attempt.held.clear()

    def _replace(self, old: Report, new: Report) -> None:
        self._count(old, -1)
        self._unsent_bytes += new.size - old.size
        old.items, old.data = new.items, new.data
        old.on_handled += new.on_handled
        self._count(old)

    def _count(self, report: Report, sign: int = 1) -> None:
        self.held.add(report, sign)
        self._connections.setdefault(report.key.connection_id, Held()).add(report, sign)


class _Filling:
    """A message that is being filled."""

    def __init__(self) -> None:
        self.message = Message("crawler.frames", b"")
        self.reports: list[Report] = []
        self._size = 0

    def has_room_for(self, report: Report) -> bool:
        return len(self.reports) < MESSAGE_FRAMES and self._size + report.size <= MESSAGE_BYTES

    def add(self, report: Report) -> None:
        self.reports.append(report)
        self._size += report.size


def _replaces(old: Report, new: Report) -> bool:
    """True if nothing is lost where the newer of two reports of progress replaces the older."""
    if new.kind != _PROGRESS or old.data.get("entityType") != new.data.get("entityType"):
        return False
    return any(new.data.get(name) for name in _RESUME) or not any(old.data.get(name) for name in _RESUME)


_NOTHING = Held()
