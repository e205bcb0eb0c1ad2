"""
The types of values in the contract: texts, numbers and JSON that Postgres can store.

Pydantic refuses any other value, item by item, before it could make a statement fail.
"""

import math
from typing import Annotated, Any
from unicodedata import category

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from persistence.db.json_tree import walk
from persistence.error_log.fingerprint import DIGITS

CHANGES_LIMIT = 1000
"""Changes of areas that one message decides."""

BATCH_LIMIT = 10_000
"""Items in one list. A longer list is refused as a whole; the sender can split it."""

_MAX_DEPTH = 32
_MAX_NODES = 20_000
_MAX_CHARACTERS = 2**20
_MAX_INTEGER = 2**63 - 1


def _storable_text(text: str) -> str:
    """Refuse text that Postgres cannot store as text or jsonb."""
    if "\x00" in text or not _encodes(text):
        raise PydanticCustomError("unkeepable_text", "must not hold NUL or lone surrogates")
    return text


def _without_controls(text: str) -> str:
    """Refuse control characters and separators of lines and paragraphs."""
    if any(category(character) in ("Cc", "Zl", "Zp") for character in text):
        raise PydanticCustomError("control_character", "must not hold control characters")
    return text


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _storable_json(value: Any) -> Any:
    """Refuse JSON that jsonb cannot store, and JSON that is too deep or too large to be useful."""
    characters = 0
    for nodes, (node, depth) in enumerate(walk(value), start=1):
        characters += len(node) if isinstance(node, str) else 0
        if depth > _MAX_DEPTH or nodes > _MAX_NODES or characters > _MAX_CHARACTERS:
            raise PydanticCustomError("json_too_large", "must be less deep and less large")
        if isinstance(node, str):
            _storable_text(node)
        elif isinstance(node, float) and not math.isfinite(node):
            raise PydanticCustomError("not_finite", "must not hold NaN or Infinity")
        elif isinstance(node, int) and abs(node) > _MAX_INTEGER:
            raise PydanticCustomError("integer_too_large", "must not hold integers beyond 64 bits")
        elif isinstance(node, dict):
            for key in node:
                characters += len(_storable_text(key))
    return value


def _check_batch(items: object) -> object:
    if not isinstance(items, list):
        raise PydanticCustomError("not_a_list", "must be a list")
    if len(items) > BATCH_LIMIT:
        raise PydanticCustomError("batch_too_large", f"must hold at most {BATCH_LIMIT} items")
    return items


def _digits(id_: object) -> object:
    """Convert an integer to text, but not true or false."""
    return str(id_) if type(id_) is int else id_


type_of_batch = AfterValidator(_check_batch)
"""Marks a batch: a task validates its items one by one, so that an invalid one does not affect the valid ones."""

_text = AfterValidator(_storable_text)

Id = Annotated[str, StringConstraints(min_length=1, max_length=64), _text]
"""A ULID, or another id of the web app."""
Ulid = Annotated[str, StringConstraints(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
Fingerprint = Annotated[str, StringConstraints(pattern=rf"^[0-9a-f]{{{DIGITS}}}$")]
"""Identifies a group of similar errors."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 in lower-case hex."""
Word = Annotated[str, StringConstraints(min_length=1, max_length=200), _text]
"""A name or a type."""
Path = Annotated[str, StringConstraints(min_length=1, max_length=1000), _text]
"""The path of a group, project or entity. It must fit into an index, which holds 2,700 bytes."""
AreaPath = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^/\s]+(/[^/\s]+)*$"), _text]
"""The full path of a group, project or user: names separated by slashes."""
AreaName = Annotated[
    str, StringConstraints(min_length=1, max_length=255), _text, AfterValidator(_without_controls)
]
"""The name of a group, project or user: any Unicode but control characters and line separators."""
EntityId = Annotated[str, BeforeValidator(_digits), StringConstraints(min_length=1, max_length=200), _text]
"""An id of GitLab: a number, its digits, or a global id."""
Message = Annotated[str, StringConstraints(max_length=20_000), _text]
Trace = Annotated[str, StringConstraints(max_length=200_000), _text]
Count = Annotated[int, Field(ge=0, le=2**53, strict=True)]
"""A count of processed items, up to the largest integer of JavaScript."""
Load = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
"""The number of jobs that a crawler reports to be working on."""
Number = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Priority = Annotated[int, Field(ge=-1_000_000, le=1_000_000, strict=True)]
Capacity = Annotated[int, Field(ge=0, le=1000, strict=True)]
"""The number of jobs that a crawler works on at once. One unit of the sweep requeues all jobs of a connection."""
JsonObject = Annotated[dict[str, Any], AfterValidator(_storable_json)]
Counts = Annotated[dict[Word, Count], Field(max_length=500)]
