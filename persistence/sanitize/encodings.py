"""Finds and decodes texts that are written in base64, in base32 or as hexadecimal digits inside another text."""

import re
from collections.abc import Iterable, Iterator

from persistence.sanitize.base64_text import TEXT, EncodedText, runs_of_letters, texts_in_base64

_HEX = re.compile(r"[0-9A-Fa-f]{18,}+")
_BASE32 = re.compile(r"[A-Z2-7]{16,}+|[a-z2-7]{16,}+")

_NINE_OF_ASCII = re.compile("[02-7]{9}")
"""The first digits of the bytes of nine printable characters of ASCII, line feeds and tabs."""

_SHORTEST = 15
"""Letters of base32 that encode nine characters."""

_GROUP = 8
"""Letters of base32 that encode five bytes; the text may begin at any of them."""

_DIGITS = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789abcdefghijklmnopqrstuv")
"""From the letters of base32 to the digits that `int` reads to the base 32, in linear time."""


def encoded_texts(text: str) -> Iterator[EncodedText]:
    """All texts of at least nine characters that are encoded in the text."""
    if runs := runs_of_letters(text):
        yield from texts_in_base64(text, runs)
        yield from texts_in_hex(text, runs)
        yield from texts_in_base32(runs)


def texts_in_hex(text: str, runs: Iterable[re.Match[str]]) -> Iterator[EncodedText]:
    """All texts of at least nine characters in hexadecimal digits, beginning at any digit."""
    for found in _within(runs, _HEX):
        for skipped in range(2):
            start = found.start() + skipped
            if not _NINE_OF_ASCII.search(text[start : found.end() : 2]):
                continue
            whole = (found.end() - start) // 2 * 2
            decoded = bytes.fromhex(text[start : start + whole])
            for part in TEXT.finditer(decoded):
                end = start + 2 * part.end()
                yield EncodedText(start + 2 * part.start(), end, part.group().decode(errors="replace"))


def texts_in_base32(runs: Iterable[re.Match[str]]) -> Iterator[EncodedText]:
    """All texts of at least nine characters in base32, in capitals or small letters, beginning at any letter."""
    for found in _within(runs, _BASE32):
        letters = found.group().upper().translate(_DIGITS)
        for skipped in range(_GROUP):
            decoded = _decoded(letters[skipped:])
            for part in TEXT.finditer(decoded):
                first = found.start() + skipped + part.start() * 8 // 5
                end = found.start() + skipped - (-part.end() * 8 // 5)
                yield EncodedText(first, end, part.group().decode(errors="replace"))


def _within(runs: Iterable[re.Match[str]], expression: re.Pattern[str]) -> Iterator[re.Match[str]]:
    for run in runs:
        if run.end() - run.start() >= _SHORTEST:
            yield from expression.finditer(run.string, *run.span())


def _decoded(digits: str) -> bytes:
    """The whole bytes that the digits to the base 32 begin with."""
    bits = 5 * len(digits)
    return (int(digits, 32) >> bits % 8).to_bytes(bits // 8, "big")
