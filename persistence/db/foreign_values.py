"""
Reads any value that other programs wrote into the shared tables.

Postgres stores values that Python cannot read: deeply nested JSON, integers of 100,000 digits, times after the year
9999 and before Christ. With the default adapters one such value in one row makes the whole statement fail, and with
it a batch of 500 frames, or a sweep.

A time without zone is UTC here, as it is in SQL, where the session's TimeZone reads and writes it.
"""

import json
import math
from datetime import UTC, datetime
from typing import Any, Final

from psycopg import Connection, DataError, adapters
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

from persistence.db.json_bounds import check_json
from persistence.db.json_tree import is_nested_deeper

UNREADABLE: Final = "[unreadable]"
"""Replaces JSON that is too deep or too large to read."""

EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
LATEST: Final = datetime.max.replace(tzinfo=UTC)

_UNCHECKED_BYTES = 1024 * 1024
"""Shorter texts are parsed without a look at them: they are at most a third of a million values."""

_DEPTH = 100
"""Levels. What we store has fewer; code that reads, shows or writes JSON recurses a few calls per level."""


def read_json(text: bytes) -> Any:
    """Parse JSON from Postgres; returns UNREADABLE if it cannot be used."""
    try:
        if len(text) > _UNCHECKED_BYTES:
            check_json(text, size=len(text))
        value = json.loads(text, parse_float=_finite)
    except (ValueError, RecursionError):
        return UNREADABLE
    return UNREADABLE if _may_be_deep(text) and is_nested_deeper(value, _DEPTH) else value


def register_time_loader(connection: Connection) -> None:
    """Read times that Python cannot represent as EARLIEST or LATEST, and those without zone as UTC."""
    connection.adapters.register_loader("timestamptz", _TimeLoader)
    connection.adapters.register_loader("timestamp", _TimeInUtcLoader)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("beyond a double")
    return number


def _may_be_deep(text: bytes) -> bool:
    """A cheap test: counting brackets costs almost nothing, walking the value does not."""
    return text.count(b"[") + text.count(b"{") > _DEPTH


class _TimeLoader(Loader):
    """psycopg's own loader, with EARLIEST or LATEST for a time that it refuses."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        exact = adapters.get_loader(oid, Format.TEXT)
        assert exact is not None  # it is among psycopg's own
        self._exact = exact(oid, context)

    def load(self, data: Buffer) -> Any:
        try:
            return self._exact.load(data)
        except DataError:
            written = bytes(data)
            return EARLIEST if written.startswith(b"-") or written.endswith(b"BC") else LATEST


class _TimeInUtcLoader(_TimeLoader):
    """The same for a time without zone."""

    def load(self, data: Buffer) -> Any:
        return super().load(data).replace(tzinfo=UTC)
