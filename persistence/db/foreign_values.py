"""
Values that others wrote into the shared tables, read without failing, however absurd they are.

Postgres keeps more than Python reads: JSON nested without end, integers of 100,000 digits, times after the
year 9999 and before Christ. Read the plain way, one such value in one job's row fails the statement, and
with it the batch of 500 frames, or the sweep, that met it.
"""

import json
import math
from datetime import UTC, datetime
from typing import Any, Final

from psycopg import Connection, DataError, adapters
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

from persistence.db.json_tree import is_nested_deeper

UNREADABLE: Final = "[unreadable]"
"""Stands for JSON that is deep or large beyond all use."""

EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
LATEST: Final = datetime.max.replace(tzinfo=UTC)

_DEPTH = 100
"""Levels. What we keep has fewer, and what reads, shows or writes it again takes a few calls a level."""


def read_json(text: bytes) -> Any:
    """The value that Postgres wrote as JSON, or UNREADABLE."""
    try:
        value = json.loads(text, parse_float=_finite)
    except (ValueError, RecursionError):
        return UNREADABLE
    return UNREADABLE if _may_be_deep(text) and is_nested_deeper(value, _DEPTH) else value


def register_time_loader(connection: Connection) -> None:
    """Let times that Python has not be the first or the last that it has."""
    connection.adapters.register_loader("timestamptz", _TimeLoader)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("beyond a double")
    return number


def _may_be_deep(text: bytes) -> bool:
    """Counting brackets is next to nothing, a walk is not."""
    return text.count(b"[") + text.count(b"{") > _DEPTH


class _TimeLoader(Loader):
    """psycopg's own loader, and what becomes of its refusals."""

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
