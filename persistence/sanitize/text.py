"""
Redacts secrets in texts that others chose, before anything is stored or logged.

Secrets are found in the text as it is, and with up to three layers of percent-encoding, backslashes and HTML entities
removed, and without invisible characters. Only the secret is replaced: names, hosts and paths stay readable. Base64,
base32 and hexadecimal digits that contain a secret, also under two layers of them, are replaced as a whole.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeAlias

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

_OUTSIDE_A_COMPONENT = re.compile(r"""[\s&"<>]""", re.ASCII)

_Known: TypeAlias = dict[tuple[str, int], bool]
"""Results for texts decoded from base64: each view and each pass finds the same texts."""


def redact_text(text: str) -> str:
    """
    The text with `[redacted]` in place of each secret, and otherwise unchanged.

    Redacting twice gives the same as redacting once. A text that still changes after several passes, or contains
    20,000 secrets, becomes `[redacted]` as a whole.
    """
    if len(text) < _SHORTEST_SHAPE and text.isidentifier():
        return text
    known: _Known = {}
    for _ in range(_MAX_PASSES):
        redacted = _redacted_once(text, known)
        if redacted == text:
            return text
        text = redacted
    return REDACTED


def _redacted_once(text: str, known: _Known) -> str:
    places = list(islice(_secrets(text, _LAYERS_OF_ENCODING, known), _MAX_SECRETS))
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


def _secrets(text: str, layers: int, known: _Known) -> Iterator[tuple[int, int]]:
    """The places of the secrets in a text, with up to *layers* layers of base64 removed."""
    for view in views(text):
        for found in find_secrets(view.text):
            yield _place(found, view, text)
        if layers:
            for encoded in encoded_texts(view.text):
                if _holds_secret(encoded.text, layers - 1, known):
                    yield view.origin(encoded.start), view.origin(encoded.end)


def _holds_secret(text: str, layers: int, known: _Known) -> bool:
    if (text, layers) not in known:
        known[text, layers] = any(start < end for start, end in _secrets(text, layers, known))
    return known[text, layers]


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
