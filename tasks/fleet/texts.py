"""The texts of frames that are stored: errors, messages, and the names that crawlers choose."""

from collections.abc import Iterator
from typing import Any, Final

from persistence.error_log.log import CONTEXT_BYTES, MESSAGE_BYTES, TRACE_BYTES
from persistence.sanitize.text import RedactedText, Tokens
from persistence.unit_of_work import UnitOfWork
from tasks.contract.frames import (
    Discovery,
    JobCompletedFrame,
    JobFailedFrame,
    JobFrame,
    JobProgressFrame,
    ResumeState,
    TokenRefreshFrame,
)
from tasks.fleet.batch import FrameBatch
from tasks.jobs.progress import id_without_secrets, name_without_secrets
from tasks.sanitize.texts import Text, redact_texts, text_of

_LIMITS: Final = {
    "stack_trace": TRACE_BYTES,
    "message": MESSAGE_BYTES,
    "error": MESSAGE_BYTES,
    "error_details": MESSAGE_BYTES,
    "context": CONTEXT_BYTES,
}

_UNNAMED: Final = RedactedText("unnamed")
"""Stands for a name that is not kept."""

_FIELDS: Final[dict[type, tuple[str, ...]]] = {
    JobProgressFrame: ("entity_type", "message", "item_counts", "resume_state"),
    JobCompletedFrame: ("message", "final_counts"),
    JobFailedFrame: ("error", "error_type", "stack_trace", "context", "partial_counts", "resume_state"),
    TokenRefreshFrame: ("error_details",),
}


def redact_frames(batch: FrameBatch) -> None:
    """Replace the texts of a batch that has many by redacted ones, within the budget."""

    def name_tokens(uow: UnitOfWork) -> None:
        uow.tokens.name(fences=(frame.job_id for _, frame in batch.frames), connections=batch.beats)

    changed: dict[int, dict[str, Any]] = {}
    for (index, field), value in redact_texts(_texts(batch), name_tokens).items():
        changed.setdefault(index, {})[field] = value
    for index, fields in changed.items():
        connection_id, frame = batch.frames[index]
        data = frame.data.model_copy(update=fields)
        batch.frames[index] = connection_id, frame.model_copy(update={"data": data})


def _texts(batch: FrameBatch) -> Iterator[Text]:
    for index, (_, frame) in enumerate(batch.frames):
        for field in _FIELDS.get(type(frame), ()):
            if value := _value(frame, field):
                yield _text((index, field), field, value)


def _value(frame: JobFrame | Discovery, field: str) -> Any:
    if isinstance(frame, TokenRefreshFrame):
        return frame.data.details_text
    return getattr(frame.data, field)


def _text(key: Any, field: str, value: Any) -> Text:
    match value:
        case ResumeState(last_entity_id=last, entity_type=kind):
            return Text(len(last or "") + len(kind or ""), key, lambda tokens: _state(value, tokens), None)
        case dict() if field != "context":
            return Text(sum(map(len, value)), key, lambda tokens: _counts(value, tokens), {})
        case str() if field in ("entity_type", "error_type"):
            return Text(len(value), key, lambda tokens: _name(value, tokens), _UNNAMED)
    return text_of(key, value, _LIMITS[field])


def _name(name: str, tokens: Tokens) -> RedactedText:
    return RedactedText(name_without_secrets(name, lambda: tokens))


def _counts(counts: dict[str, int], tokens: Tokens) -> dict[RedactedText, int]:
    redacted: dict[RedactedText, int] = {}
    for name, count in counts.items():
        kept = _name(name, tokens)
        redacted[kept] = max(redacted.get(kept, 0), count)
    return redacted


def _state(state: ResumeState, tokens: Tokens) -> ResumeState:
    last, kind = state.last_entity_id, state.entity_type
    return state.model_copy(
        update={
            "last_entity_id": last and RedactedText(id_without_secrets(last, lambda: tokens)),
            "entity_type": kind and _name(kind, tokens),
        }
    )
