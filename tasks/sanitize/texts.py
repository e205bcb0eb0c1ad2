"""
Texts of a message, redacted before its transaction begins.

A few texts of crawlers are redacted where they are stored, in 60 ms at most for 64 KiB: to do it before, a transaction
of its own would have to read the tokens for each message. A message with many of them would keep its transaction open,
and with it the locks of its connections and jobs: it is redacted here, within a budget. The smallest texts come
first, so that a sender of large ones uses up its own; what is left is not kept, but its item is applied.
"""

from collections.abc import Callable, Hashable, Iterable
from functools import partial
from time import monotonic
from typing import Any, Final, NamedTuple, TypeVar

from persistence.sanitize.json_values import clean_text, storable
from persistence.sanitize.text import RedactedText, Tokens
from persistence.unit_of_work import UnitOfWork
from tasks.runtime.unit import unit_of_work

K = TypeVar("K", bound=Hashable)

FEW: Final = 64 * 1024
"""A message with no more letters of texts than this is redacted as its texts are stored."""

MAX_LETTERS: Final = 4 * 1024 * 1024
MAX_SECONDS: Final = 5.0

OMITTED: Final = RedactedText("[not kept: its message had too much text]")


class Text(NamedTuple):
    """One text of a message, or several that belong together."""

    length: int
    key: Any
    redact: Callable[[Tokens], Any]
    omitted: Any
    """What stands in its place if it is beyond the budget."""


def text_of(key: Any, value: str | dict[str, Any], limit: int) -> Text:
    """A text, or JSON, of which at most *limit* bytes are kept."""
    if isinstance(value, str):
        return Text(len(value), key, lambda tokens: RedactedText(clean_text(value, limit, tokens)), OMITTED)
    return Text(len(str(value)), key, partial(redacted_json, value, limit), {"context": OMITTED})


def redact_reason(reason: str, limit: int) -> RedactedText:
    """
    Redact what an operator or the web app says, such as why something is cancelled, to at most *limit* bytes.

    It is no crawler's text, so that no tokens are read for it, and it is always redacted before any transaction.
    """
    return RedactedText(clean_text(reason, limit))


def redact_texts(texts: Iterable[Text], name_tokens: Callable[[UnitOfWork], None]) -> dict[Any, Any]:
    """
    Redact the texts, within the budget; the values to put in their places, by their keys.

    Nothing is redacted, and the answer is empty, if there are few. *name_tokens* names whose tokens they may hold.
    """
    texts = sorted(texts, key=lambda text: text.length)
    left = MAX_LETTERS
    if sum(text.length for text in texts) <= FEW:
        return {}
    with unit_of_work() as uow:
        name_tokens(uow)
        tokens = uow.tokens.values()
    deadline = monotonic() + MAX_SECONDS
    redacted = {}
    for text in texts:
        left -= text.length
        is_kept = left >= 0 and monotonic() < deadline
        redacted[text.key] = text.redact(tokens) if is_kept else text.omitted
    return redacted


def redacted_json(value: Any, limit: int, tokens: Tokens = ()) -> Any:
    """JSON as it is stored in at most *limit* bytes, whose texts say that they are redacted."""
    return _marked(storable(value, limit, tokens))


def _marked(value: Any) -> Any:
    match value:
        case str():
            return RedactedText(value)
        case dict():
            return {RedactedText(key): _marked(item) for key, item in value.items()}
        case list():
            return [_marked(item) for item in value]
    return value
