"""
Makes values that others chose safe to store: without secrets, accepted by Postgres, limited in size.

`text.py` redacts a single text. This module walks whole values, and also redacts what stands under the name of a
secret.
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

from persistence.sanitize.secret_patterns import is_header, is_secret
from persistence.sanitize.text import REDACTED, RedactedText, Tokens, redact_text

JSON: TypeAlias = bool | int | float | str | list["JSON"] | dict[str, "JSON"] | None

TOO_DEEP: Final = "[too deep]"
CUT: Final = "[cut]"
ESCAPED: Final = "escaped"
"""The only key of a payload that the database refused as it was; its value is the payload's JSON in ASCII."""

STORED_BYTES: Final = 64 * 1024
"""The default size limit of `storable`."""

_Container: TypeAlias = dict[Any, Any] | list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any]
_CONTAINERS = (dict, list, tuple, set, frozenset)

_DEPTH = 64
_VALUES = 1_000_000
"""How many values `redact` visits at most: a few lists that contain each other can make 2**64 of them."""

_MARGIN = 8 * 1024
"""How many characters past its limit a text is searched, so that a secret on the limit is recognised as a whole."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass
class _Redactor:
    """One walk through a value, which stops after this many values or characters."""

    values: int
    characters: int = sys.maxsize
    tokens: Tokens = ()
    replaces_unstorable: bool = False
    """NUL and lone surrogates, which Postgres refuses, become U+FFFD."""

    def value(self, value: object, depth: int = 0) -> JSON:
        """Redact a value of any type. Inspecting a foreign object may raise anything; then its type is named."""
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
        """Redact a text, and cut it if it is longer than the characters that are left."""
        room = max(self.characters, 0)
        self.characters -= len(text)
        begin = text if len(text) <= room + _MARGIN else type(text)(text[: room + _MARGIN])
        redacted = redact_text(begin, self.tokens)
        if self.replaces_unstorable:
            redacted = _UNSTORABLE.sub("\ufffd", redacted)
        if len(text) <= room:
            return redacted
        # The end of what was searched may be half a secret, which no expression recognises.
        known = len(redacted) - (_MARGIN if len(text) > room + _MARGIN else 0)
        return redacted[: max(min(room, known), 0)] + CUT

    def _scalar(self, value: object) -> JSON:
        match value:
            case None | bool():
                return value
            case str():
                # A subclass may override __str__; these are its real characters.
                return self.text(value if type(value) is RedactedText else str.__str__(value))
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
        # Only as much as will be visited: a subclass may yield values without end.
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
        """Redact a list. Some clients write a header as a list of name and value."""
        if len(items) == len(("name", "value")) and type(items[0]) is str:
            name = self._key(items[0])
            return [name, self._under(items[0], name, items[1], depth)]
        redacted: list[JSON] = []
        name = ""
        for item in items:
            # In a flat list of headers, as Node has it, each value follows its name.
            redacted.append(self._under(name, name, item, depth) if name else self.value(item, depth + 1))
            name = item if not name and type(item) is str and is_header(item) else ""
            if self.is_exhausted:
                break
        return redacted

    def _kind(self, value: object) -> str:
        """The name of an object's type, because its repr may contain secrets."""
        return self.text(type(value).__name__)


def _number(number: float) -> JSON:
    """The number, or text if JSON, Postgres or a double cannot express it."""
    if isinstance(number, int):
        # Python refuses to write a long integer in decimal.
        return number if number.bit_length() < sys.float_info.max_exp else hex(number)
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def redact(value: JSON) -> JSON:
    """
    The value with each text redacted, and `[redacted]` in place of what stands under the name of a secret.

    Takes any object and never raises. Bytes and numbers that JSON cannot express become text, other objects become
    the name of their type, and what is nested deeper than 64 levels becomes `[too deep]`. Redacting twice gives the
    same as redacting once.
    """
    return _Redactor(_VALUES).value(value)


def storable(value: object, limit: int = STORED_BYTES, tokens: Tokens = ()) -> JSON:
    """
    The value redacted as by `redact`, and of the *tokens*, as jsonb accepts it, in at most *limit* bytes of JSON.

    NUL and lone surrogates become U+FFFD. If the value is too large, a text keeps its beginning, and any other value
    becomes `{"cut": the beginning of its JSON}`.
    """
    kept = _Redactor(limit, limit, tokens, replaces_unstorable=True).value(value)
    if _size(kept) <= limit:
        return kept
    if isinstance(kept, str):
        return _longest_prefix(kept.removesuffix(CUT), limit, lambda beginning: _size(beginning + CUT)) + CUT
    text = json.dumps(kept, ensure_ascii=False)
    return {"cut": _longest_prefix(text, limit, lambda beginning: _size({"cut": beginning}))}


def clean_text(text: str, limit: int, tokens: Tokens = ()) -> str:
    """
    The text redacted, also of the *tokens*, as a text column accepts it, in at most *limit* bytes.

    If it was cut, it ends in `[cut]`.
    """
    kept = _Redactor(limit, limit, tokens, replaces_unstorable=True).text(text)
    if len(kept.encode()) <= limit:
        return kept
    kept = kept.removesuffix(CUT)
    return kept.encode()[: max(limit - len(CUT), 0)].decode(errors="ignore") + CUT[:limit]


def _size(value: JSON) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())


def _longest_prefix(text: str, limit: int, size: Callable[[str], int]) -> str:
    """The longest prefix whose *size* is within *limit*; a longer prefix is never smaller."""
    beginnings = range(min(len(text), limit) + 1)
    return text[: max(bisect_right(beginnings, limit, key=lambda length: size(text[:length])) - 1, 0)]
