"""Whether a value that was made storable is still what it was: the marks that `storable` leaves."""

import re
from typing import Any

from persistence.sanitize.json_values import CUT, TOO_DEEP
from persistence.sanitize.text import REDACTED

_NON_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})

_LONG_NUMBER = re.compile(r"-?0x[0-9a-f]{256,}")
"""An integer that no double holds; Python writes it like this and not in decimal."""

_MARKS = {
    REDACTED: "a secret was taken out of it",
    CUT: "it was cut",
    TOO_DEEP: "it was nested too deep",
    "\ufffd": "it held NUL or half a character",
}


def alteration_of(payload: Any) -> str | None:
    """
    Why what is kept is not what was sent, in words; None where nothing tells of that.

    In doubt it is altered: what was sent may have held such a mark itself.
    """
    if isinstance(payload, dict) and payload.keys() == {"cut"}:
        return _MARKS[CUT]
    values = [payload]
    while values:
        value = values.pop()
        if isinstance(value, str) and (why := _find_mark(value)):
            return why
        if isinstance(value, list | dict):
            values += value
            values += value.values() if isinstance(value, dict) else ()
    return None


def _find_mark(text: str) -> str | None:
    if text in _NON_FINITE or _LONG_NUMBER.fullmatch(text):
        return "it held a number that JSON has not"
    return next((why for mark, why in _MARKS.items() if mark in text), None)
