"""Tells whether a stored value is still what was sent, by the marks that `storable` leaves."""

import re
from collections.abc import Iterator
from typing import Any

from persistence.db.json_tree import walk
from persistence.sanitize.json_values import CUT, ESCAPED, TOO_DEEP
from persistence.sanitize.text import REDACTED

_NON_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})

_LONG_NUMBER = re.compile(r"-?0x[0-9a-f]{256,}")
"""An integer too large for a double, as `storable` writes it."""

_MARKS = {
    REDACTED: "a secret was taken out of it",
    CUT: "it was cut",
    TOO_DEEP: "it was nested too deep",
    "\ufffd": "it held NUL or a lone surrogate",
}


def alteration_of(payload: Any) -> str | None:
    """
    Why the stored *payload* differs from what was sent, in words for people; None if it holds no mark.

    A mark that the sender wrote itself also counts: the two cannot be told apart.
    """
    if isinstance(payload, dict) and payload.keys() == {"cut"}:
        return _MARKS[CUT]
    if isinstance(payload, dict) and payload.keys() == {ESCAPED}:
        return "the database refused it, and it was escaped"
    return next((why for text in _texts_within(payload) if (why := _find_mark(text))), None)


def _texts_within(payload: Any) -> Iterator[str]:
    """Every text in *payload*, keys included."""
    for value, _ in walk(payload):
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from value


def _find_mark(text: str) -> str | None:
    if text in _NON_FINITE or _LONG_NUMBER.fullmatch(text):
        return "it held a number that JSON cannot express"
    return next((why for mark, why in _MARKS.items() if mark in text), None)
