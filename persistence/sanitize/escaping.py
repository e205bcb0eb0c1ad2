"""Removes layers of percent-encoding, backslashes and HTML entities from a text, and maps positions back."""

import html
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

_LAYERS = 3

_ESCAPE = re.compile(
    r"""%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\["'\\/nrt]|&(?:quot|amp|apos|\#34|\#39|\#x27);"""
)
_CODE_POINT = re.compile(r"(?:%|\\u|\\x)([0-9A-Fa-f]+)")
_LETTERS = {"\\n": "\n", "\\r": "\r", "\\t": "\t"}


@dataclass(frozen=True)
class View:
    """A text without some layers of escaping, and a function from its positions to those of the original."""

    text: str
    origin: Callable[[int], int]

    def peeled(self) -> "View | None":
        """Remove one more layer; None if there is none."""
        pieces: list[str] = []
        places: list[int] = []
        shifts: list[int] = []
        end = shift = 0
        for escape in _ESCAPE.finditer(self.text):
            start, after = escape.span()
            pieces.append(self.text[end:start])
            pieces.append(_unescaped(escape.group()))
            places.append(start - shift)
            shift += after - start - 1
            shifts.append(shift)
            end = after
        if not pieces:
            return None
        pieces.append(self.text[end:])
        outer = self.origin

        def origin(index: int) -> int:
            before = bisect_left(places, index)
            return outer(index + shifts[before - 1] if before else index)

        return View("".join(pieces), origin)


@lru_cache(maxsize=1024)
def _unescaped(escape: str) -> str:
    """The character that an escape stands for. Each byte of percent-encoded UTF-8 is one character."""
    if escape[0] == "&":
        return html.unescape(escape)
    if digits := _CODE_POINT.fullmatch(escape):
        return chr(int(digits[1], base=16))
    return _LETTERS.get(escape, escape[1])


def views(text: str) -> Iterator[View]:
    """The text itself, then with one layer of escaping removed after another."""
    view: View | None = View(text, lambda index: index)
    for _ in range(_LAYERS + 1):
        if view is None:
            return
        yield view
        view = view.peeled()
