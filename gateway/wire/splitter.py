"""
Splits what arrives on a link into frames, in time linear in its size, however it is cut into reads.

A splitter holds what follows the last frame that it gave; nobody but its link calls it. The bound of a frame is given
with each call, since it changes while a link lives.
"""

import re
from typing import Final, Protocol

_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["{}\[\]]', re.DOTALL)
"""A whole string, which is passed over; a quote that begins one whose end is not here; or a bracket."""

_REST_OF_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)

_NOT_BLANK = re.compile(rb"[^ \t\r\n]")

MAX_DEPTH: Final = 64
"""Objects and lists within each other in one frame."""


class BadFrameError(ValueError):
    """What arrived is no frame, and what follows it cannot be told apart: *code* is one of the protocol's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Splitter(Protocol):
    """Gives frames, one a call, so that its link can stop between any two."""

    @property
    def held(self) -> int:
        """The bytes that were fed and not given yet."""

    @property
    def unfinished(self) -> bool:
        """Whether a frame has begun of which `next_frame` has looked for the end in vain."""

    def feed(self, chunk: bytes) -> None:
        """Take what was read. To be called only after `next_frame` has returned None."""

    def next_frame(self, limit: int) -> bytes | None:
        """Return the next frame, without its delimiter, or None. Raises BadFrameError beyond *limit* bytes."""

    def forget(self) -> None:
        """Throw away what is held. Nothing may be fed after it."""


class _Chunks:
    """What was read and not given yet: the rest of a chunk, and the beginning of a frame from chunks before it."""

    __slots__ = ("_at", "_begun", "_chunk")

    def __init__(self) -> None:
        self._chunk = b""
        self._at = 0
        self._begun: bytearray | None = None
        """One growing array, not one object a read."""

    @property
    def held(self) -> int:
        """The bytes that were fed and not given yet."""
        return len(self._chunk) - self._at + (0 if self._begun is None else len(self._begun))

    @property
    def unfinished(self) -> bool:
        """Whether a frame has begun of which the end has not arrived."""
        return self._begun is not None

    def feed(self, chunk: bytes) -> None:
        """Take what was read. To be called only after `next_frame` has returned None."""
        self._chunk, self._at = chunk, 0

    def forget(self) -> None:
        """Throw away what is held. Nothing may be fed after it."""
        self._chunk, self._at, self._begun = b"", 0, None

    def _take(self, end: int | None, limit: int, delimiter: int = 0) -> bytes | None:
        """Return the frame that ends at *end*; None, and keep its beginning, if that is not in this chunk."""
        size = (len(self._chunk) if end is None else end) - self._at
        if size + (0 if self._begun is None else len(self._begun)) > limit:
            raise BadFrameError("frame_too_large", f"a frame has more than {limit} bytes")
        frame = self._chunk[self._at : end]
        if end is None:
            self._chunk, self._at = b"", 0
            if self._begun is not None:
                self._begun += frame
            elif frame:
                self._begun = bytearray(frame)
            return None
        self._at = end + delimiter
        if self._begun is not None:
            frame, self._begun = bytes(self._begun) + frame, None
        return frame


class LineSplitter(_Chunks):
    """Frames end with a newline, as in protocol 1. An empty line is an empty frame."""

    __slots__ = ()

    def next_frame(self, limit: int) -> bytes | None:
        """Return the next line, or None. Raises BadFrameError where it exceeds *limit* bytes."""
        end = self._chunk.find(b"\n", self._at)
        return self._take(None if end < 0 else end, limit, len(b"\n"))


class ValueSplitter(_Chunks):
    """
    Frames are JSON objects with nothing, or blanks, between them, as in the original dialect.

    It counts brackets outside of strings; whether they match is for the parser to find.
    """

    __slots__ = ("_depth", "_escaped", "_in_string")

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._in_string = False
        self._escaped = False
        """The chunk before this one ended between a backslash and what it escapes."""

    def next_frame(self, limit: int) -> bytes | None:
        """Return the next object, or None. Raises BadFrameError if it is none, too deep, or beyond *limit* bytes."""
        if self._begun is None and not self._skip_blanks():
            return None
        return self._take(self._end_of_object(), limit)

    def _skip_blanks(self) -> bool:
        """Go to the beginning of an object; False if there is none in this chunk."""
        begin = _NOT_BLANK.search(self._chunk, self._at)
        if begin is None:
            self._chunk, self._at = b"", 0
            return False
        self._at = begin.start()
        if begin[0] != b"{":
            raise BadFrameError("malformed", "a frame is a JSON object, and begins with {")
        return True

    def _end_of_object(self) -> int | None:
        """Return the position after the end of the object; None if that is not in this chunk."""
        at = self._at
        if self._in_string:
            rest = _REST_OF_STRING.match(self._chunk, at + self._escaped)
            if rest is None:
                self._leave_in_string(at + self._escaped)
                return None
            at, self._in_string, self._escaped = rest.end(), False, False
        for found in _STRING_OR_BRACKET.finditer(self._chunk, at):
            match found[0]:
                case b"{" | b"[":
                    self._depth += 1
                    if self._depth > MAX_DEPTH:
                        raise BadFrameError("malformed", f"a frame is nested more than {MAX_DEPTH} deep")
                case b"}" | b"]":
                    self._depth -= 1
                    if self._depth == 0:
                        return found.end()
                case b'"':
                    self._leave_in_string(found.end())
                    return None
        return None

    def _leave_in_string(self, begin: int) -> None:
        """Note that the chunk ends within a string, of which it holds what follows *begin*."""
        rest = self._chunk[begin:]
        backslashes = len(rest) - len(rest.rstrip(b"\\"))
        self._in_string, self._escaped = True, backslashes % 2 == 1
