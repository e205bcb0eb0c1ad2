"""As much of a message that nobody processes as a person can read later. It may be what killed a worker."""

import base64
from contextlib import suppress
from typing import Any

from persistence.db.json_bounds import parse_json
from persistence.sanitize.json_values import STORED_BYTES

READABLE_BYTES = STORED_BYTES
"""A longer text is cut, and not parsed: no more than this is stored of it."""

_JSON = "application/json"


def readable_text(raw: bytes) -> object:
    """
    A malformed text: JSON, else text.

    JSON that is beyond a bound stays text. Of bytes that are not text, and of a body that is not JSON either by its
    content type or in fact, only the length remains: a pickled body may contain secrets that no redaction recognizes.
    """
    whole = _parsed(raw)
    if isinstance(whole, dict) and isinstance(whole.get("body"), str):
        whole["body"] = _readable_part(whole)
    return whole


def readable_body(raw: bytes) -> object:
    """The arguments of a body if it has them, else the body."""
    body = _parsed(raw)
    match body:
        case [list() as args, dict() as kwargs, _]:
            return {"args": args, "kwargs": kwargs}
        case _:
            return body


def _readable_part(envelope: dict[str, Any]) -> object:
    """The decoded body of an envelope, or the original if it cannot be decoded."""
    raw: bytes | str = envelope["body"]
    properties = envelope.get("properties")
    encoding = properties.get("body_encoding") if isinstance(properties, dict) else "unknown"
    with suppress(ValueError):
        if encoding == "base64":
            raw = base64.b64decode(raw)
        elif encoding in (None, "utf-8"):
            raw = str(raw).encode()
    read = _parsed(raw) if isinstance(raw, bytes) else raw
    is_json = envelope.get("content-type", _JSON) == _JSON
    return _describe_bytes(raw) if isinstance(read, str) and (not is_json or _hides_bytes(read)) else read


def _hides_bytes(text: str) -> bool:
    """True if it is base64 of bytes that are not text."""
    try:
        base64.b64decode(text, validate=True).decode()
    except UnicodeDecodeError:
        return True
    except ValueError:
        pass  # it is not base64
    return False


def _parsed(raw: bytes) -> object:
    if len(raw) > READABLE_BYTES:
        # A character that the cut halves is dropped.
        return _describe_bytes(raw) if _is_binary(raw) else raw[:READABLE_BYTES].decode(errors="ignore")
    with suppress(ValueError):
        return parse_json(raw)
    with suppress(ValueError):
        return raw.decode()
    return _describe_bytes(raw)


def _is_binary(raw: bytes) -> bool:
    """True if it does not begin as UTF-8 text."""
    try:
        raw[:READABLE_BYTES].decode()
    except UnicodeDecodeError as error:
        return error.start < READABLE_BYTES - 4  # less is a character that the cut halves
    return False


def _describe_bytes(raw: bytes | str) -> str:
    return f"[{len(raw):,} bytes that are not text]"
