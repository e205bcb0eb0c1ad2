"""Texts of the environment and of the command line, which Python reads in the encoding of the locale."""

import os
import sys
from collections.abc import Mapping
from typing import Any


def as_utf8(text: str) -> str:
    """Return the text as UTF-8 if its bytes are, whatever the locale has made of them."""
    if text.isascii():
        return text
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        return text


def read_texts(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as UTF-8. Raises ValueError that names one that is neither that nor the locale's encoding."""
    read = {name: as_utf8(value) if isinstance(value, str) else value for name, value in given.items()}
    if wrong := [name for name, value in read.items() if isinstance(value, str) and _is_unreadable(value)]:
        variable = wrong[0] if wrong[0].isupper() else f"CRAWLYARD_{wrong[0].upper()}"
        encoding = sys.getfilesystemencoding()
        raise ValueError(
            f"{variable} is neither UTF-8 nor readable in the encoding of this locale, {encoding}"
        )
    return read


def _is_unreadable(text: str) -> bool:
    """True if the locale could not read one of its bytes, for which Python puts a lone surrogate."""
    return any("\ud800" <= character <= "\udfff" for character in text)
