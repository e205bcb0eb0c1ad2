"""
How many rejected messages are kept: rows and bytes of one connection, and of all.

`rejected_count` has a row per connection with what it has in `rejected_message`, one under NO_CONNECTION for messages
of no connection, and one under ALL with the sums. The counts are read without a lock and added to by the last
statement before the commit: nothing waits for a lock while it writes rows. Units that commit together may exceed a
bound by what they write at once.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session

from persistence.schema.sql import sql
from persistence.settings import settings

NO_CONNECTION: Final = ""
ALL: Final = "*"

NOT_KEPT = "; its payload was not kept: too many bytes are kept already"

_CONNECTION = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")

_READ = sql("""
    SELECT connection_id, rows, bytes, dropped FROM rejected_count WHERE connection_id = ANY (CAST(:ids AS text[]))
""")

_ADD = sql("""
    INSERT INTO rejected_count AS counted (connection_id, rows, bytes, dropped, dropped_at)
    SELECT connection_id, rows, bytes, dropped, CASE WHEN dropped > 0 THEN now() END
      FROM jsonb_to_recordset(CAST(:added AS jsonb)) AS a(connection_id text, rows int, bytes bigint, dropped bigint)
     ORDER BY connection_id COLLATE "C"
    ON CONFLICT (connection_id) DO UPDATE
       SET rows = counted.rows + excluded.rows, bytes = counted.bytes + excluded.bytes,
           dropped = counted.dropped + excluded.dropped,
           dropped_at = COALESCE(excluded.dropped_at, counted.dropped_at)
""")

_RECOUNT = sql("""
    WITH kept AS (
        SELECT COALESCE(connection_id, '') AS connection_id, count(*) AS rows,
               COALESCE(sum(COALESCE(bytes, pg_column_size(payload))), 0) AS bytes
          FROM rejected_message GROUP BY 1
    ), wanted AS (
        SELECT * FROM kept
        UNION ALL SELECT '*', COALESCE(sum(rows), 0), COALESCE(sum(bytes), 0) FROM kept
        UNION ALL SELECT connection_id, 0, 0 FROM rejected_count c
                   WHERE connection_id <> '*' AND NOT EXISTS (
                             SELECT FROM kept WHERE kept.connection_id = c.connection_id)
    )
    INSERT INTO rejected_count (connection_id, rows, bytes)
    SELECT connection_id, rows, bytes FROM wanted ORDER BY connection_id COLLATE "C"
    ON CONFLICT (connection_id) DO UPDATE SET rows = excluded.rows, bytes = excluded.bytes
""")

_FORGET = sql("""
    DELETE FROM rejected_count WHERE connection_id IN (
        SELECT connection_id FROM rejected_count
         WHERE rows = 0 AND connection_id NOT IN ('', '*')
         ORDER BY connection_id FOR UPDATE SKIP LOCKED)
""")


def connection_of(payload: object) -> str | None:
    """The connection that an item names, if that is what a connection id looks like."""
    named = payload.get("connection_id") if isinstance(payload, dict) else None
    return named if isinstance(named, str) and _CONNECTION.fullmatch(named) else None


@dataclass
class _Count:
    rows: int = 0
    bytes: int = 0
    dropped: int = 0


class RejectedBounds:
    """The table `rejected_count`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._added: dict[str, _Count] = {}

    def admit(self, rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
        """
        The rows that may be written, and the connections that have just reached a bound for the first time.

        A row for whose `bytes` there is no room is admitted without its payload. `add` then counts the rows.
        """
        keys = {row["connection_id"] or NO_CONNECTION for row in rows}
        kept = self._read({*keys, ALL, NO_CONNECTION})
        self._added = defaultdict(_Count)
        admitted = [fitting for row in rows if (fitting := self._fitting(row, kept))]
        reached = [
            key
            for key in sorted(keys & self._added.keys())
            if self._added[key].dropped > kept[key].dropped == 0
        ]
        return admitted, reached

    def fit(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of the rows that are kept already for whose `bytes` there is room. `add` then counts the bytes."""
        keys = {row["connection_id"] or NO_CONNECTION for row in rows}
        kept = self._read({*keys, ALL, NO_CONNECTION})
        self._added = defaultdict(_Count)
        fitting = []
        for row in rows:
            key, size = row["connection_id"] or NO_CONNECTION, row["bytes"]
            if size <= _room(key, kept)[1]:
                fitting.append(row)
                for counted in (key, ALL):
                    kept[counted].bytes += size
                    self._added[counted].bytes += size
        return fitting

    def add(self) -> None:
        """Count what was admitted and what was not. Locks the counts until the commit, which must follow at once."""
        added = [{"connection_id": key, **vars(count)} for key, count in self._added.items()]
        self._added = {}
        if added:
            self._session.execute(_ADD, {"added": json.dumps(added)})

    def recount(self) -> None:
        """Count anew what is kept: deletions, and rows of workers of earlier versions, are not counted otherwise."""
        self._session.execute(_RECOUNT)
        self._session.execute(_FORGET)

    def _read(self, keys: Iterable[str]) -> dict[str, _Count]:
        kept: dict[str, _Count] = defaultdict(_Count)
        for key, rows, size, dropped in self._session.execute(_READ, {"ids": list(keys)}):
            kept[key] = _Count(rows, size, dropped)
        return kept

    def _fitting(self, row: dict[str, Any], kept: dict[str, _Count]) -> dict[str, Any] | None:
        """The row as it may be written; None if not at all. Counts it in *kept* and in what is to be added."""
        key, size = row["connection_id"] or NO_CONNECTION, row["bytes"]
        rows_left, bytes_left = _room(key, kept)
        if rows_left < 1:
            # A connection that has nothing kept gets no row: their number is bounded, too.
            for counted in {key, ALL} if kept[key].rows else {ALL}:
                self._added[counted].dropped += 1
            return None
        if size > bytes_left:
            row, size = row | {"payload": None, "bytes": 0, "detail": row["detail"] + NOT_KEPT}, 0
        for counted in (key, ALL):
            for count in (kept[counted], self._added[counted]):
                count.rows += 1
                count.bytes += size
        return row


def _room(key: str, kept: dict[str, _Count]) -> tuple[int, int]:
    """How many rows and bytes may be kept for *key*. Half of all is left to messages of no connection."""
    limits, everything, others = settings(), kept[ALL], kept[NO_CONNECTION]
    rows, size = limits.max_rejected - everything.rows, limits.max_rejected_bytes - everything.bytes
    if key == NO_CONNECTION:
        return rows, size
    return (
        min(
            rows,
            limits.max_rejected // 2 - (everything.rows - others.rows),
            limits.max_rejected_per_connection - kept[key].rows,
        ),
        min(
            size,
            limits.max_rejected_bytes // 2 - (everything.bytes - others.bytes),
            limits.max_rejected_bytes_per_connection - kept[key].bytes,
        ),
    )
