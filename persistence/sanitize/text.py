"""
Redacts secrets in texts that others chose, before anything is stored or logged.

Secrets are found in the text as it is, and with up to three layers of percent-encoding, backslashes and HTML entities
removed, and without invisible characters. Only the secret is replaced: names, hosts and paths stay readable. Base64,
base32 and hexadecimal digits that contain a secret, also under two layers of them, are replaced as a whole.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeAlias
from urllib.parse import quote, quote_plus

from persistence.sanitize.encodings import encoded_texts
from persistence.sanitize.escaping import View, views
from persistence.sanitize.secret_patterns import FoundSecret, find_secrets

REDACTED: Final = "[redacted]"
_LAYERS_OF_ENCODING = 2
_MAX_PASSES = 6

_SHORTEST_SHAPE = 13
"""No single word that is shorter is a secret: `GR1348941` and four letters."""

_MAX_SECRETS = 20_000
"""A text with this many secrets contains nothing else. Redacting a megabyte of the shortest took over a second."""

_NOTHING_TO_ESCAPE = re.compile(r"[\w.~-]*+", re.ASCII)

_OUTSIDE_A_COMPONENT = re.compile(r"""[\s&"<>]""", re.ASCII)

Tokens: TypeAlias = tuple[str, ...]
"""Tokens that are known by their values, each of 16 characters or more."""

_Known: TypeAlias = dict[tuple[str, int], bool]
"""Results for texts decoded from base64: each view and each pass finds the same texts."""


class RedactedText(str):
    """A text that was redacted, of its known tokens too; it is not searched again."""

    __slots__ = ()


def redact_text(text: str, tokens: Tokens = ()) -> str:
    """
    The text with `[redacted]` in place of each secret and of each of the *tokens*, and otherwise unchanged.

    Redacting twice gives the same as redacting once. A text that still changes after several passes, or contains
    20,000 secrets, becomes `[redacted]` as a whole.
    """
    if type(text) is RedactedText:
        return text
    if len(text) < _SHORTEST_SHAPE and (text.isalnum() or text.isidentifier()):
        return text
    known: _Known = {}
    for _ in range(_MAX_PASSES):
        redacted = _redacted_once(text, tokens, known)
        if redacted == text:
            return text
        text = redacted
    return REDACTED


def _redacted_once(text: str, tokens: Tokens, known: _Known) -> str:
    places = list(islice(_secrets(text, _LAYERS_OF_ENCODING, tokens, known), _MAX_SECRETS))
    if len(places) == _MAX_SECRETS:
        return REDACTED
    pieces: list[str] = []
    end = 0
    for start, after in _merged(places):
        pieces += (text[end:start], REDACTED)
        end = after
    return "".join(pieces) + text[end:]


def _merged(places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The places in order, with overlapping ones joined and empty ones left out."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(places):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif start < end:
            merged.append((start, end))
    return merged


def _secrets(text: str, layers: int, tokens: Tokens, known: _Known) -> Iterator[tuple[int, int]]:
    """The places of the secrets in a text, with up to *layers* layers of base64 removed."""
    for view in views(text):
        for found in find_secrets(view.text):
            yield _place(found, view, text)
        for start, end in _places_of(tokens, view.text):
            yield view.origin(start), view.origin(end)
        if layers:
            for encoded in encoded_texts(view.text):
                if _holds_secret(encoded.text, layers - 1, tokens, known):
                    yield view.origin(encoded.start), view.origin(encoded.end)


def _holds_secret(text: str, layers: int, tokens: Tokens, known: _Known) -> bool:
    if (text, layers) not in known:
        known[text, layers] = any(start < end for start, end in _secrets(text, layers, tokens, known))
    return known[text, layers]


def spellings(token: str) -> tuple[str, ...]:
    """
    The token, and how JSON and percent-encoding write it if it holds signs to escape.

    `redact_text` finds it behind escapes by itself, but not if it holds what looks like an escape, or letters that
    are no ASCII.
    """
    if _NOTHING_TO_ESCAPE.fullmatch(token):
        return (token,)
    in_json = (json.dumps(token, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    in_urls = (encode(token, safe=safe) for encode in (quote, quote_plus) for safe in ("", "/"))
    return tuple(dict.fromkeys((token, *in_json, *in_urls)))


def _places_of(tokens: Tokens, text: str) -> Iterator[tuple[int, int]]:
    """The places of tokens. One by one: of 3,000, `in` takes 24 ms per 64 KiB, an expression of all 1,810 ms."""
    for token in tokens:
        if token in text:
            start = text.find(token)
            while start >= 0:
                yield start, start + len(token)
                start = text.find(token, start + 1)


def _place(found: FoundSecret, view: View, original: str) -> tuple[int, int]:
    """The positions in the original of a secret that was found in a view of it."""
    if view.text is original:
        return found.start, found.end
    name, first, after = map(view.origin, found)
    if "%" in original[name:first]:
        # The sign itself is percent-encoded: all of it is one component of a URL, and the secret ends with it.
        outside = _OUTSIDE_A_COMPONENT.search(original, first, after)
        after = outside.start() if outside else after
    return first, after
