"""
Text that stands base64-encoded in another text: where, and what it says.

Nothing tells where base64 begins: in `/api/v4/projects/b2F1dGgy` the path is made of its letters too. So a run
of them is read four times, from its first letter and the three after it, and what comes out as text is text.
An ordinary word is not even read: of four letters that stand for three of ASCII, each is one of few.
"""

import re
from binascii import a2b_base64
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

_LETTERS: Final = "[A-Za-z0-9+/_-]"

_RUN = re.compile(_LETTERS + "{12,}+={0,2}")
# What encoders break into lines, they break into such; the last line may be shorter.
_FULL_LINES = range(40, 101, 4)
_NEXT_LINE = re.compile(rf"\r?\n(?P<line>{_LETTERS}++)={{0,2}}")

# Nine printable characters of ASCII, line feeds and tabs among them. At the last place of four all letters occur.
_NINE_OF_ASCII = re.compile(
    rf"(?: [CDI-Za-f] [ACDEFGHQS-Xgi-nwyz0-3] [ABEFIJMNQRUVYZcdghklopstwx014589] {_LETTERS} ){{3}}",
    re.VERBOSE,
)
# From there on no more control characters; other scripts' letters are bytes from 80 to FF.
_TEXT = re.compile(rb"[\t\n\r -~]{9,}+[\t\n\r -~\x80-\xff]*+")

_STANDARD = str.maketrans("-_", "+/")


@dataclass(frozen=True)
class EncodedText:
    """A text, and the place of the base64 that it was read from."""

    start: int
    end: int
    text: str


def texts_in_base64(text: str) -> Iterator[EncodedText]:
    """All texts of at least nine characters in either alphabet, padded or not, broken into lines or not."""
    end = 0
    for found in _RUN.finditer(text):
        # One that begins before *end* was a line of the run before it.
        if found.start() >= end and _NINE_OF_ASCII.search(text, *found.span()):
            run = _Run.beginning_with(text, found)
            end = run.end
            yield from run.texts()


@dataclass(frozen=True)
class _Run:
    """Letters of base64 without what stands between lines and at the end, and the places of the lines."""

    letters: str
    places: list[int]
    firsts: list[int]
    """Of each line, where it begins in the letters."""
    end: int

    @classmethod
    def beginning_with(cls, text: str, found: re.Match[str]) -> "_Run":
        """The run, and the lines below that belong to it."""
        lines, places, end = [found.group().rstrip("=")], [found.start()], found.end()
        while len(lines[-1]) in _FULL_LINES and (more := _NEXT_LINE.match(text, end)):
            lines.append(more["line"])
            places.append(more.start("line"))
            end = more.end()
        return cls("".join(lines), places, [0, *accumulate(map(len, lines[:-1]))], end)

    def texts(self) -> Iterator[EncodedText]:
        """What can be read, from each of the four places where a group of four letters may begin."""
        letters = self.letters.translate(_STANDARD)
        for skipped in range(4):
            decoded = _decoded(letters[skipped:])
            for text in _TEXT.finditer(decoded):
                first = skipped + text.start() // 3 * 4
                last = skipped + (text.end() - 1) // 3 * 4 + 3
                yield EncodedText(self._place(first), self._end(last), text.group().decode(errors="replace"))

    def _place(self, letter: int) -> int:
        line = bisect_right(self.firsts, letter) - 1
        return self.places[line] + letter - self.firsts[line]

    def _end(self, last: int) -> int:
        """Behind the last letter, and behind the padding if it is the last of all."""
        return self.end if last >= len(self.letters) - 1 else self._place(last) + 1


def _decoded(letters: str) -> bytes:
    """The bytes, of an incomplete group at the end those that are whole."""
    whole = len(letters) - (len(letters) % 4 == 1)
    return a2b_base64(letters[:whole] + "=" * (-whole % 4))
