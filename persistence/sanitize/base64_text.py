"""
Finds and decodes base64-encoded text inside another text.

Nothing marks where base64 begins: in `/api/v4/projects/b2F1dGgy` the path also consists of its letters. A run of such
letters is therefore decoded four times, starting at each of its first four letters, and what decodes to text is text.
Ordinary words are not decoded: of four letters that encode three of ASCII, each is one of few.
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
# The lengths of lines that encoders produce; the last line may be shorter.
_FULL_LINES = range(40, 101, 4)
_NEXT_LINE = re.compile(rf"\r?\n(?P<line>{_LETTERS}++)={{0,2}}")

# Nine printable characters of ASCII, including line feeds and tabs. The last of four letters can be any letter.
_NINE_OF_ASCII = re.compile(
    rf"(?: [CDI-Za-f] [ACDEFGHQS-Xgi-nwyz0-3] [ABEFIJMNQRUVYZcdghklopstwx014589] {_LETTERS} ){{3}}",
    re.VERBOSE,
)
# No control characters after them; letters of other scripts are bytes from 80 to FF.
TEXT = re.compile(rb"[\t\n\r -~]{9,}+[\t\n\r -~\x80-\xff]*+")

_STANDARD = str.maketrans("-_", "+/")


@dataclass(frozen=True)
class EncodedText:
    """A decoded text, and the position of its base64."""

    start: int
    end: int
    text: str


def runs_of_letters(text: str) -> list[re.Match[str]]:
    """The runs of letters of base64, of 12 or more; the letters of base32 and hexadecimal digits are among them."""
    return list(_RUN.finditer(text))


def texts_in_base64(text: str, runs: list[re.Match[str]] | None = None) -> Iterator[EncodedText]:
    """
    All encoded texts of at least nine characters, in either alphabet, with or without padding and line breaks.

    *runs* are the runs of letters of the text, if the caller knows them.
    """
    end = 0
    for found in runs_of_letters(text) if runs is None else runs:
        # A run that begins before *end* was a line of the previous run.
        if found.start() >= end and _NINE_OF_ASCII.search(text, *found.span()):
            run = _Run.beginning_with(text, found)
            end = run.end
            yield from run.texts()


@dataclass(frozen=True)
class _Run:
    """Letters of base64 without line breaks and padding, and the positions of the lines."""

    letters: str
    places: list[int]
    firsts: list[int]
    """For each line, the index of its first letter in the letters."""
    end: int

    @classmethod
    def beginning_with(cls, text: str, found: re.Match[str]) -> "_Run":
        """The run, with the following lines that belong to it."""
        lines, places, end = [found.group().rstrip("=")], [found.start()], found.end()
        while len(lines[-1]) in _FULL_LINES and (more := _NEXT_LINE.match(text, end)):
            lines.append(more["line"])
            places.append(more.start("line"))
            end = more.end()
        return cls("".join(lines), places, [0, *accumulate(map(len, lines[:-1]))], end)

    def texts(self) -> Iterator[EncodedText]:
        """Texts decoded from each of the four positions at which a group of four letters may begin."""
        letters = self.letters.translate(_STANDARD)
        for skipped in range(4):
            decoded = _decoded(letters[skipped:])
            for text in TEXT.finditer(decoded):
                first = skipped + text.start() // 3 * 4
                last = skipped + (text.end() - 1) // 3 * 4 + 3
                yield EncodedText(self._place(first), self._end(last), text.group().decode(errors="replace"))

    def _place(self, letter: int) -> int:
        line = bisect_right(self.firsts, letter) - 1
        return self.places[line] + letter - self.firsts[line]

    def _end(self, last: int) -> int:
        """The position after the last letter, and after the padding if it is the last letter of the run."""
        return self.end if last >= len(self.letters) - 1 else self._place(last) + 1


def _decoded(letters: str) -> bytes:
    """The decoded bytes, without the incomplete byte of an incomplete last group."""
    whole = len(letters) - (len(letters) % 4 == 1)
    return a2b_base64(letters[:whole] + "=" * (-whole % 4))
