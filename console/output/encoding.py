"""Output never fails for an encoding: what a terminal or a pipe cannot encode is written in ASCII."""

import codecs
import sys

from persistence.environment import as_utf8

FALLBACK = "crawlyard"
"""The name of the codecs' error handler."""

_IN_ASCII = {"→": "->", "…": "...", "–": "-", "—": "-", "·": ".", "±": "+-", "×": "x"}  # noqa: RUF001 - what we print


def never_fail() -> None:
    """Let standard output and error write in ASCII what they cannot encode."""
    codecs.register_error(FALLBACK, _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=FALLBACK)


def read_arguments() -> None:
    """Take the command line's words as UTF-8, whatever the locale has made of them."""
    sys.argv[1:] = [as_utf8(word) for word in sys.argv[1:]]


def can_print(text: str) -> bool:
    """True if standard output can encode the text as it is."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    refused = error.object[error.start : error.end]
    return "".join(
        _IN_ASCII.get(one) or one.encode("ascii", "backslashreplace").decode() for one in refused
    ), error.end
