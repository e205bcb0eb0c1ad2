"""
Texts of frames, redacted before a transaction begins.

A few texts are redacted where they are stored. A message with many of them would keep its transaction open, and with
it the locks of its connections and jobs: it is redacted here, within a budget. The smallest texts come first, so that
a crawler with large ones uses up its own; what is left is not kept, but its frame is applied.
"""

from collections.abc import Iterator
from time import monotonic
from typing import Any, Final

from persistence.sanitize.json_values import clean_text, storable
from persistence.sanitize.text import RedactedText, Tokens
from tasks.contract.frames import JobCompletedFrame, JobFailedFrame, JobProgressFrame, TokenRefreshFrame
from tasks.fleet.batch import FrameBatch
from tasks.runtime.unit import unit_of_work

FEW: Final = 64 * 1024
"""A message with no more letters of texts than this is redacted as its texts are stored."""

MAX_LETTERS: Final = 4 * 1024 * 1024
MAX_SECONDS: Final = 5.0

OMITTED: Final = RedactedText("[not kept: its message had too much text]")

_LIMITS: Final = {"stack_trace": 200_000, "message": 20_000, "error": 20_000, "error_details": 20_000}
_LONGEST_CONTEXT = 60_000

_Text = tuple[int, int, str, Any]
"""Its length, the index of its frame, and its field with the value."""


def redact_texts(batch: FrameBatch) -> None:
    """Replace the texts of a batch that has many by redacted ones, within the budget."""
    texts = sorted(_texts(batch), key=lambda text: text[0])
    left = MAX_LETTERS
    if sum(length for length, *_ in texts) <= FEW:
        return
    with unit_of_work() as uow:
        uow.tokens.name(fences=(frame.job_id for _, frame in batch.frames), connections=batch.beats)
        tokens = uow.tokens.values()
    deadline = monotonic() + MAX_SECONDS
    for length, index, field, value in texts:
        left -= length
        is_kept = left >= 0 and monotonic() < deadline
        connection_id, frame = batch.frames[index]
        data = frame.data.model_copy(
            update={field: _redacted(field, value, tokens) if is_kept else _omitted(value)}
        )
        batch.frames[index] = connection_id, frame.model_copy(update={"data": data})


def _texts(batch: FrameBatch) -> Iterator[_Text]:
    for index, (_, frame) in enumerate(batch.frames):
        if isinstance(frame, JobFailedFrame):
            fields = {
                "error": frame.data.error,
                "stack_trace": frame.data.stack_trace,
                "context": frame.data.context,
            }
        elif isinstance(frame, (JobProgressFrame, JobCompletedFrame)):
            fields = {"message": frame.data.message}
        elif isinstance(frame, TokenRefreshFrame):
            fields = {"error_details": frame.data.details_text}
        else:
            continue
        for field, value in fields.items():
            if value:
                yield len(value) if isinstance(value, str) else len(str(value)), index, field, value


def _redacted(field: str, value: Any, tokens: Tokens) -> Any:
    if isinstance(value, str):
        return RedactedText(clean_text(value, _LIMITS[field], tokens))
    return _marked(storable(value, _LONGEST_CONTEXT, tokens))


def _marked(value: Any) -> Any:
    """The redacted JSON, whose texts say that they are redacted."""
    match value:
        case str():
            return RedactedText(value)
        case dict():
            return {RedactedText(key): _marked(item) for key, item in value.items()}
        case list():
            return [_marked(item) for item in value]
    return value


def _omitted(value: Any) -> Any:
    return OMITTED if isinstance(value, str) else {"context": OMITTED}
