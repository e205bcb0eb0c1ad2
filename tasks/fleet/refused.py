"""
Items of a message of frames that are refused: junk costs its sender, and delays nobody else.

Redacting 200 items of 64 KiB takes over a minute. The unit that applies the honest frames therefore stores a row of
fixed size for each refused item. Their payloads follow in bounded units, each redacted before its transaction begins.
A crash before the first commit does all again; after it, only what is missing. What is more than the budget of a
message stays without its payload, `sampled_out`.
"""

import json
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from time import monotonic
from typing import Any, Final, TypeAlias

from celery import current_task

from persistence.messages.rejected import Refused
from persistence.sanitize.json_values import JSON, storable
from persistence.schema.ids import ConnectionId
from persistence.unit_of_work import UnitOfWork
from tasks.contract.frames import Discovery, JobFrame
from tasks.fleet.batch import FrameBatch
from tasks.runtime.batches import derived_id
from tasks.runtime.unit import unit_of_work

MAX_BYTES: Final = 1024 * 1024
"""So many bytes of refused items are stored of one message."""

MAX_SECONDS: Final = 2.0
"""So long it is redacted what one message had refused."""

_UNIT_BYTES = 256 * 1024
_UNIT_SECONDS = 0.5


_Origin: TypeAlias = tuple[ConnectionId | None, str, int]
"""The sender of an item, its digest, and its length as JSON."""


class RefusedItems:
    """The refused items of one message."""

    def __init__(self, batch: FrameBatch, message: str) -> None:
        self._batch = batch
        self._message = message
        self._positions: dict[int, int] | None = None
        self.any = False
        """True if an item was claimed."""
        self._measured = [_measure(invalid.item) for invalid in batch.invalid]

    def claim_invalid(self, uow: UnitOfWork) -> None:
        """Note the items that are not frames."""
        for invalid, measured in zip(self._batch.invalid, self._measured, strict=True):
            self._claim(uow, invalid.position, ("invalid", invalid.error), (invalid.sender, *measured))

    def claim_frame(
        self,
        uow: UnitOfWork,
        connection_id: ConnectionId,
        frame: JobFrame | Discovery,
        reason: str,
        detail: str = "",
    ) -> None:
        """Note a frame that cannot be applied."""
        if self._positions is None:
            pairs = zip(self._batch.frames, self._batch.positions, strict=True)
            self._positions = {id(frame): position for (_, frame), position in pairs}
        measured = _measure(frame_item(connection_id, frame))
        self._claim(uow, self._positions[id(frame)], (reason, detail), (connection_id, *measured))

    def _claim(self, uow: UnitOfWork, position: int, refusal: tuple[str, str], origin: _Origin) -> None:
        self.any = True
        refused = Refused(derived_id(self._message, position), *refusal, origin[0], origin[1], origin[2])
        uow.rejected.claim(
            refused, task=current_task.name if current_task else None, message_id=self._message
        )

    def fill(self) -> None:
        """Store the payloads of claimed items in bounded units; the last one marks the message as done."""
        items = dict(self._items())
        with unit_of_work() as uow:
            _name(uow, self._batch)
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

    def _items(self) -> Iterator[tuple[str, object]]:
        """By id, all items of the message that may have been refused, the smallest first."""
        measured = zip(self._measured, self._batch.invalid, strict=True)
        for _, invalid in sorted(measured, key=lambda pair: pair[0][1]):
            yield derived_id(self._message, invalid.position), invalid.item
        for (connection_id, frame), position in zip(self._batch.frames, self._batch.positions, strict=True):
            yield derived_id(self._message, position), frame_item(connection_id, frame)


def _name(uow: UnitOfWork, batch: FrameBatch) -> None:
    uow.tokens.name(fences=(frame.job_id for _, frame in batch.frames), connections=batch.beats)


def frame_item(connection_id: ConnectionId, frame: JobFrame | Discovery) -> dict[str, Any]:
    """The item as the message had it. Not as JSON: a discovery may be nested too deeply to be written as such."""
    dumped = frame.model_dump(by_alias=True, warnings=False)
    return {"connection_id": connection_id, "frame": dumped}


def _measure(item: object) -> tuple[str, int]:
    """The digest of an item, and its length as JSON."""
    try:
        text = json.dumps(item, default=str, sort_keys=True)
    except (RecursionError, ValueError, TypeError):
        text = type(item).__name__
    return sha256(text.encode()).hexdigest(), len(text)
