"""
The refused items of a message of many: junk costs its sender, and delays nobody else.

Redacting 200 items of 64 KiB takes over a minute. The unit that applies the good items therefore stores a row of
fixed size for each refused item. Their payloads follow in bounded units, each redacted before its transaction begins.
A crash before the first commit does all again; after it, only what is missing. What is more than the budget of a
message stays without its payload, `sampled_out`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from time import monotonic
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from celery import current_task
from pydantic import TypeAdapter, ValidationError

from persistence.messages.rejected import Refused
from persistence.messages.rejected_bounds import connection_of
from persistence.sanitize.json_values import JSON, storable
from persistence.schema.ids import ConnectionId
from persistence.unit_of_work import UnitOfWork
from tasks.runtime.batches import derived_id
from tasks.runtime.rejection import describe_error
from tasks.runtime.unit import message_id, unit_of_work

T = TypeVar("T")

MAX_BYTES: Final = 1024 * 1024
"""So many bytes of refused items are stored of one message."""

MAX_SECONDS: Final = 2.0
"""So long it is redacted what one message had refused."""

_UNIT_BYTES = 256 * 1024
_UNIT_SECONDS = 0.5

Place: TypeAlias = int | str
"""The position of an item in its message, or `position.n` of an item within that."""


class _Measure(NamedTuple):
    """What is kept of an item at once: a digest of its JSON, and the length of that."""

    digest: str
    size: int


class _Invalid(NamedTuple):
    place: Place
    detail: str
    connection_id: ConnectionId | None


class RefusedItems:
    """The refused items of the current message, and the units that apply it."""

    def __init__(self, items: Sequence[object], message: str | None = None) -> None:
        self._given = items
        self._message = message or message_id()
        self._invalid: list[_Invalid] = []
        self._measured: dict[Place, _Measure] = {}
        self._claimed: set[Place] = set()
        """Those whose payloads are to be stored, if they are refused indeed."""

    @property
    def any(self) -> bool:
        """True if an item was refused."""
        return bool(self._claimed or self._invalid)

    def valid(self, kind: TypeAdapter[T]) -> list[tuple[int, T]]:
        """The valid items with their positions; the others are refused."""
        found = []
        for position, item in enumerate(self._given):
            try:
                found.append((position, kind.validate_python(item)))
            except (ValidationError, RecursionError) as error:
                self.add_invalid(position, describe_error(error))
        return found

    def add_invalid(self, place: Place, detail: str, connection_id: ConnectionId | None = None) -> None:
        """Note an invalid item; `claim_invalid` claims it."""
        self._invalid.append(_Invalid(place, detail, connection_id))
        self._measured[place] = _measure(self.item(place))

    def apply(self, change: Callable[[UnitOfWork], None]) -> None:
        """
        Apply the message once: *change* makes its unit, which commits with a row for each refused item.

        Then store what was refused. A message that was applied before continues there.
        """
        with unit_of_work() as uow:
            if uow.processed.mark_processed(self._message):
                self.claim_invalid(uow)
                change(uow)
                if self.any:
                    uow.processed.leave_undone(self._message)
                is_done = not self.any
            else:
                is_done = uow.processed.is_done(self._message)
                self._claimed.update(place for place, _ in ([] if is_done else self.candidates()))
            uow.commit()
        if not is_done:
            self.fill()

    def claim_invalid(self, uow: UnitOfWork) -> None:
        """Claim the invalid items."""
        for place, detail, connection_id in self._invalid:
            self.claim(uow, place, "invalid", detail, connection_id)

    def claim(
        self,
        uow: UnitOfWork,
        place: Place,
        reason: str,
        detail: str = "",
        connection_id: ConnectionId | None = None,
    ) -> None:
        """Refuse the item at this place; the unit's commit stores its row, without the payload."""
        item = self.item(place)
        if place not in self._measured:
            self._measured[place] = _measure(item)
        self._claimed.add(place)
        uow.rejected.claim(
            Refused(
                derived_id(self._message, place),
                reason,
                detail,
                connection_id or connection_of(item),
                *self._measured[place],
            ),
            task=current_task.name if current_task else None,
            message_id=self._message,
        )

    def name_tokens(self, uow: UnitOfWork) -> None:
        """Name the attempts, connections and jobs whose accounts' tokens the items may hold."""
        uow.tokens.name_within(list(self._given))

    def item(self, place: Place) -> object:
        """The item at a place, as it was sent."""
        return self._given[int(place)]

    def candidates(self) -> Iterable[tuple[Place, object]]:
        """All items that may have been refused, by their places."""
        return enumerate(self._given)

    def fill(self) -> None:
        """Store the payloads of claimed items in bounded units; the last one marks the message as done."""
        items = dict(self._claimed_items())
        with unit_of_work() as uow:
            self.name_tokens(uow)
            tokens = uow.tokens.values()
            missing = uow.rejected.unfilled(items)
        deadline, left = monotonic() + MAX_SECONDS, MAX_BYTES
        redact = {id_: partial(storable, items[id_], tokens=tokens) for id_ in items if id_ in missing}
        while redact:
            payloads: dict[str, JSON] = {}
            size, unit_deadline = 0, min(monotonic() + _UNIT_SECONDS, deadline)
            while redact and size < min(_UNIT_BYTES, left) and monotonic() < unit_deadline:
                id_ = next(iter(redact))
                payloads[id_] = redact.pop(id_)()
                size += len(json.dumps(payloads[id_]))
            left -= size
            is_over = left <= 0 or monotonic() >= deadline
            self._store(payloads, sampled_out=redact.keys() if is_over else ())
            if is_over:
                break
        with unit_of_work() as uow:
            uow.processed.mark_done(self._message)
            uow.commit()

    def _store(self, payloads: dict[str, JSON], sampled_out: Any) -> None:
        with unit_of_work() as uow:
            if payloads:
                uow.rejected.fill(payloads)
            uow.rejected.sample_out(sampled_out)
            uow.commit()

    def _claimed_items(self) -> Iterator[tuple[str, object]]:
        """The claimed items by the ids of their rows, the smallest first as far as they are measured."""
        largest = _Measure("", MAX_BYTES)
        for place in sorted(self._claimed, key=lambda place: self._measured.get(place, largest).size):
            yield derived_id(self._message, place), self.item(place)


def _measure(item: object) -> _Measure:
    try:
        text = json.dumps(item, default=str, sort_keys=True)
    except (RecursionError, ValueError, TypeError):
        text = type(item).__name__
    return _Measure(sha256(text.encode(errors="surrogatepass")).hexdigest(), len(text))
