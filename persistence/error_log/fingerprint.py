"""
The fingerprint of an error: a hash of its type, the words of its message, and the top of its stack trace.

What differs between occurrences is left out: numbers, ids, URLs, paths and quoted values of a message; lines,
columns, addresses and folders of a stack trace. Every expression takes linear time on hostile text, because each
match begins where the previous one failed or ended.
"""

import re
from collections import deque
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from typing import Final

DIGITS: Final = 16
"""Hex digits of a fingerprint: 64 bits, more than enough for all kinds of errors."""

_FRAMES = 3

# --- The words of a message ---

_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]{0,15}://[^\s\"'<>\\]*+")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
# Quoted values are removed, except the message of a server's error, which is quoted too, under one of these names.
# Quotes inside quotes are escaped with backslashes. An apostrophe inside a word is no quote.
_QUOTED = re.compile(
    r"""
      (?<!\\)\\{0,3}["'](?:message|error|error_description|reason|detail)\\{0,3}["'] [ ]{0,4}:[ ]{0,4}
             \\{0,3}["'](?P<message>[^"'\\\n]*+)\\{0,3}["']
    | (?<!\\)\\{1,3}"[^"\\\n]*+\\{1,3}"
    | "[^"\n]*+" | `[^`\n]*+` | (?<!\w)'[^'\n]*+'(?!\w)
    | \u201c[^\u201c\u201d\n]*+\u201d | \u2018[^\u2018\u2019\n]*+\u2019
    """,
    re.VERBOSE,
)
_PIECE = re.compile(r"[^\s,;=()\[\]{}<>|\"'`]++")
_PLACE = re.compile(r"[/\\@]")
_NAME = re.compile(r"\w++")
_NUMBER = re.compile(r"\d++")
_HEX = re.compile(r"(?:[0-9a-f]{7,}+|[0-9A-F]{7,}+)\Z")
_WORD = re.compile(r"[^\W\d_]++")

# --- The frames of a stack trace ---

_PYTHON_FRAME = re.compile(r'^[ \t|+]*+File "[^"\n]*+", line \d[^\n]*+', re.MULTILINE)
_AT_FRAME = re.compile(r"^[ \t]*+at [^\n]*+", re.MULTILINE)
_ANY_FRAME = re.compile(
    r"^[ \t]*+(?:from |\#?\d{1,4}:? )?(?:[A-Za-z]:)?[^\s:(]++(?::|\()\d[^\n]*+", re.MULTILINE
)
_LINE = re.compile(r"^[ \t]*+[^\s][^\n]*+", re.MULTILINE)

# Inside quotes or brackets a folder may contain spaces.
_FOLDER = re.compile(r"""(?<=["(])[^"()]*[/\\] | (?<![^\s()"'/\\])[^\s()"'/\\]*+[/\\]""", re.VERBOSE)
# JavaScriptCore writes `function@file`.
_FUNCTION_AT = re.compile(r"\A[ \t]*+([^\s@()\"'/\\]++)@")
_QUERY = re.compile(r"\?[^\s:)]*+")
# Hexadecimal digits are an address, or the hash that a bundler adds to a file name.
_VOLATILE = re.compile(r"(?<!\w)(?:0[xX][0-9a-fA-F]++|[0-9a-f]{8,}+(?!\w)|\d++)")


def fingerprint(error_type: str, message: str, stack_trace: str | None = None) -> str:
    """The fingerprint of an error with redacted texts; similar errors have the same."""
    parts = [error_type, " ".join(_words(message)), *_top_frames(stack_trace or "")]
    return sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:DIGITS]


def _words(message: str) -> Iterator[str]:
    """The words of a message that describe what happened, in order, without punctuation."""
    message = _QUOTED.sub(lambda quoted: f" {quoted['message'] or ''} ", _URL.sub(" ", message))
    for piece in _PIECE.findall(_UUID.sub(" ", message)):
        if not _PLACE.search(piece):
            for name in _NAME.findall(piece):
                if not _is_id(name):
                    yield from _WORD.findall(name)


def _is_id(name: str) -> bool:
    """True if it looks like an id, a count or a measure, such as `01J8Z…`, `4f3a2b1` and `5ms`, but not `HTTP2`."""
    return name[0].isdigit() or _HEX.match(name) is not None or len(_NUMBER.findall(name)) > 1


def _top_frames(trace: str) -> list[str]:
    """The innermost frames, innermost first; for a trace without frames, the words of its first lines."""
    # Python writes the innermost frame last, and the cause of an error before the error.
    if python := deque(_PYTHON_FRAME.finditer(trace), maxlen=_FRAMES):
        return [_place(frame.group()) for frame in reversed(python)]
    for expression in (_AT_FRAME, _ANY_FRAME):
        if frames := list(islice(expression.finditer(trace), _FRAMES)):
            return [_place(frame.group()) for frame in frames]
    return [" ".join(_words(line.group())) for line in islice(_LINE.finditer(trace), _FRAMES)]


def _place(frame: str) -> str:
    """The function and file of a frame, without folders, lines, columns and addresses."""
    place = _FOLDER.sub("", _FUNCTION_AT.sub(r"\1 ", frame))
    return " ".join(_VOLATILE.sub("", _QUERY.sub("", place)).split())
