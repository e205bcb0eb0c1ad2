"""
What may be kept of values that others chose: no secret, nothing that Postgres refuses, nothing without bound.

Secrets in texts are `redaction`'s; here whole values are walked, secrets known by their key included.
"""

import json
import math
import re
import sys
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, Final, TypeAlias
from uuid import UUID

from persistence.sanitize.text import REDACTED, is_secret, redact_text

JSON: TypeAlias = bool | int | float | str | list["JSON"] | dict[str, "JSON"] | None

TOO_DEEP: Final = "[too deep]"
CUT: Final = "[cut]"

STORED_BYTES: Final = 64 * 1024
"""What `storable` keeps of a value, unless told otherwise."""

_Container: TypeAlias = dict[Any, Any] | list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any]
_CONTAINERS = (dict, list, tuple, set, frozenset)

_DEPTH = 64
_VALUES = 1_000_000
"""How many values `redact` looks at: a few lists that hold each other can be 2**64 of them."""

_MARGIN = 8 * 1024
"""Of a text longer than its limit so much more is read: what the cut could halve is seen as a whole."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass
class _Redactor:
    """One walk through a value. It ends when it has seen so many values, or so many characters."""

    values: int
    characters: int = sys.maxsize

    def value(self, value: object, depth: int = 0) -> JSON:
        """Redact whatever this is. An object may do anything when it is looked at; here it may not raise."""
        self.values -= 1
        if self.is_exhausted:
            return CUT
        with suppress(Exception):
            return self._container(value, depth) if isinstance(value, _CONTAINERS) else self._scalar(value)
        return self._kind(value)

    @property
    def is_exhausted(self) -> bool:
        return self.values < 0 or self.characters < 0

    def text(self, text: str) -> str:
        """Redact a text; one that is longer than what may still be seen is cut."""
        room = max(self.characters, 0)
        self.characters -= len(text)
        redacted = redact_text(text[: room + _MARGIN])
        if len(text) <= room:
            return redacted
        # Where the reading ended may be half a secret, which nothing recognises.
        known = len(redacted) - (_MARGIN if len(text) > room + _MARGIN else 0)
        return redacted[: max(min(room, known), 0)] + CUT

    def _scalar(self, value: object) -> JSON:
        match value:
            case None | bool():
                return value
            case str():
                # A subclass may say anything of itself; its characters are these.
                return self.text(str.__str__(value))
            case int() | float():
                return _number(value)
            case bytes() | bytearray() | memoryview():
                return self.text(bytes(value).decode(errors="replace"))
            case date() | timedelta() | Decimal() | UUID():
                return self.text(str(value))
        return self._kind(value)

    def _container(self, value: _Container, depth: int) -> JSON:
        if depth >= _DEPTH:
            return TOO_DEEP
        if isinstance(value, dict):
            return self._mapping(value, depth)
        # No further than we shall look: what a subclass yields may have no end.
        return self._sequence(list(islice(value, self.values + 1)), depth)

    def _mapping(self, mapping: dict[Any, Any], depth: int) -> JSON:
        redacted: dict[str, JSON] = {}
        for key, value in mapping.items():
            if self.is_exhausted:
                redacted[CUT] = CUT
                break
            name = self._key(key)
            redacted[name] = self._under(key if type(key) is str else name, name, value, depth)
        return redacted

    def _key(self, key: object) -> str:
        name = self.value(key)
        return name if isinstance(name, str) else json.dumps(name)

    def _under(self, key: str, redacted_key: str, value: object, depth: int) -> JSON:
        if is_secret(key, value) or is_secret(redacted_key, value):
            self.values -= 1
            return REDACTED
        return self.value(value, depth + 1)

    def _sequence(self, items: list[Any], depth: int) -> JSON:
        """Redact a list. One of a name and a value is how some clients hold a header."""
        if len(items) == len(("name", "value")) and type(items[0]) is str:
            name = self._key(items[0])
            return [name, self._under(items[0], name, items[1], depth)]
        redacted: list[JSON] = []
        for item in items:
            redacted.append(self.value(item, depth + 1))
            if self.is_exhausted:
                break
        return redacted

    def _kind(self, value: object) -> str:
        """Name an object's type: what it says of itself may hold secrets."""
        return self.text(type(value).__name__)


def _number(number: float) -> JSON:
    """The number, or text where JSON, Postgres or a double has none such."""
    if isinstance(number, int):
        # Python refuses to write a long one in decimal.
        return number if number.bit_length() < sys.float_info.max_exp else hex(number)
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def redact(value: JSON) -> JSON:
    """
    The value with `[redacted]` for what stands under the name of a secret, and each text redacted.

    Takes any object and never raises: bytes become text, numbers that JSON lacks become text, other
    objects the name of their type, deeper than 64 levels is `[too deep]`. Redacting twice is
    redacting once.
    """
    return _Redactor(_VALUES).value(value)


def storable(value: object, limit: int = STORED_BYTES) -> JSON:
    """
    Whatever was given, redacted, as jsonb takes it and in at most *limit* bytes of JSON.

    As `redact`; and NUL and lone surrogates become U+FFFD. Of a text that is too long the beginning
    is kept, and of any other value `{"cut": the beginning of its JSON}`.
    """
    kept = _storable(_Redactor(limit, limit).value(value))
    if _size(kept) <= limit:
        return kept
    if isinstance(kept, str):
        return _longest_prefix(kept.removesuffix(CUT), limit, lambda beginning: _size(beginning + CUT)) + CUT
    text = json.dumps(kept, ensure_ascii=False)
    return {"cut": _longest_prefix(text, limit, lambda beginning: _size({"cut": beginning}))}


def clean_text(text: str, limit: int) -> str:
    """The text redacted, as a text column takes it, in at most *limit* bytes; if cut, it ends in `[cut]`."""
    kept = _UNSTORABLE.sub("\ufffd", _Redactor(limit, limit).text(text))
    if len(kept.encode()) <= limit:
        return kept
    kept = kept.removesuffix(CUT)
    return kept.encode()[: max(limit - len(CUT), 0)].decode(errors="ignore") + CUT[:limit]


def _storable(value: JSON) -> JSON:
    match value:
        case str():
            return _UNSTORABLE.sub("\ufffd", value)
        case list():
            return [_storable(item) for item in value]
        case dict():
            return {_UNSTORABLE.sub("\ufffd", key): _storable(item) for key, item in value.items()}
    return value


def _size(value: JSON) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())


def _longest_prefix(text: str, limit: int, size: Callable[[str], int]) -> str:
    """The longest beginning whose size, which grows with it, is within *limit*."""
    beginnings = range(min(len(text), limit) + 1)
    return text[: max(bisect_right(beginnings, limit, key=lambda length: size(text[:length])) - 1, 0)]
