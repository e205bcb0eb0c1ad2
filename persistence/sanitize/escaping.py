"""Removes layers of percent-encoding, backslashes, HTML entities and invisible characters; maps positions back."""

import html
import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

_LAYERS = 3

_ESCAPE = re.compile(
    r"""%[0-9A-Fa-f]{2}|%u[0-9A-Fa-f]{4}
      | \\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|u\{[0-9A-Fa-f]{1,6}\}|U[0-9A-Fa-f]{8}|x\{[0-9A-Fa-f]{1,6}\}
            |[0-3][0-7]{2}|["'\\/nrt])
      | &(?:quot|amp|apos|colon|equals|lowbar|hyphen|period|sol|commat|lt|gt|\#[0-9]{1,7}|\#[xX][0-9A-Fa-f]{1,6});
      | &\#(?:[0-9]{1,7}|[xX][0-9A-Fa-f]{1,6})(?![0-9A-Fa-f;])""",
    re.VERBOSE,
)
_CODE_POINT = re.compile(r"(?:%u?|\\[uUx])\{?([0-9A-Fa-f]+)\}?")

_INVISIBLE = re.compile(
    r"""\x1b\[[0-9;:?]*+[ -/]*+[@-~]      # colours and the like of a terminal
      | \x1b\][^\x07\x1b]*+(?:\x07|\x1b\\)
      | [\x00-\x08\x0b\x0c\x0e-\x1f\x7f\xad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]
      | \xe2(?:\x80[\x8b-\x8f\xaa-\xae]|\x81[\xa0-\xaf]) | \xef\xbb\xbf | \xc2\xad""",
    re.VERBOSE,
)
"""What is not seen, as characters or as the bytes of UTF-8 that percent-encoding leaves."""
_LETTERS = {"\\n": "\n", "\\r": "\r", "\\t": "\t"}


@dataclass(frozen=True)
class View:
    """A text without some layers of escaping, and a function from its positions to those of the original."""

    text: str
    origin: Callable[[int], int]

    def peeled(self) -> "View | None":
        """Remove one more layer of escapes; None if there is none."""
        return self._replaced(_ESCAPE, _unescaped) if has_escape(self.text) else None

    def visible(self) -> "View":
        """Remove invisible characters."""
        return (self._replaced(_INVISIBLE, _nothing) or self) if _may_be_invisible(self.text) else self

    def _replaced(self, expression: re.Pattern[str], replacement: Callable[[str], str]) -> "View | None":
        pieces: list[str] = []
        places: list[int] = []
        shifts: list[int] = []
        end = shift = 0
        for escape in expression.finditer(self.text):
            start, after = escape.span()
            pieces.append(self.text[end:start])
            pieces.append(replacement(escape.group()))
            places.append(start - shift)
            shift += after - start - len(pieces[-1])
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


def has_escape(text: str) -> bool:
    """True if the text may hold an escape; much cheaper than to search for one."""
    return "%" in text or "\\" in text or "&" in text


def _may_be_invisible(text: str) -> bool:
    """True if some of the text may be invisible. Of the control characters of ASCII, these are the usual ones."""
    return not text.isascii() or "\x1b" in text or "\0" in text or "\b" in text or "\x7f" in text


def _nothing(_: str) -> str:
    return ""


@lru_cache(maxsize=1024)
def _unescaped(escape: str) -> str:
    """The character that an escape stands for. Each byte of percent-encoded UTF-8 is one character."""
    if escape[0] == "&":
        return html.unescape(escape)[:1]
    if digits := _CODE_POINT.fullmatch(escape):
        return chr(min(int(digits[1], base=16), sys.maxunicode))
    if escape[1:].isdigit():
        return chr(int(escape[1:], base=8))
    return _LETTERS.get(escape, escape[1])


def views(text: str) -> Iterator[View]:
    """The text itself, without what is invisible, then with one layer of escaping removed after another."""
    view: View | None = View(text, lambda index: index)
    for _ in range(_LAYERS + 1):
        if view is None:
            return
        yield view
        seen = view.visible()
        if seen is not view:
            yield seen
        view = seen.peeled()
