"""
The whole database in a form that can be compared between runs: every row without times, with ids renamed.

An id that a run has created gets a name from all rows that contain it, in columns or in JSON. Two runs that did
the same give it the same name, so no table needs a key of its own for the comparison.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

Tables = dict[str, list[dict[str, Any]]]
"""Rows by table, as JSON has them."""

_ULID = re.compile(r"\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b")
_TIME = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)?")
_NAMES = re.compile(r'\["(?:#\w*|[0-9A-Z]{26})"(?:, "(?:#\w*|[0-9A-Z]{26})")*\]')

_DURATIONS = frozenset({"seconds_elapsed", "seconds_remaining", "oldest"})
"""JSON fields with durations."""

_READ = {
    "live_count": """
        (SELECT account_id, host, 0 AS shard, sum(live) AS live FROM live_count
          GROUP BY account_id, host HAVING sum(live) <> 0)
    """,
    "statistic": "(SELECT * FROM statistic WHERE name <> 'open_connections')",
}
"""
Which backend counted is random, so only the sums are compared. The last unit of a sweep counts the open connections,
and a sweep that is delivered again may have more or fewer units.
"""

_ROUNDS = 3
"""An id is named by the rows that contain it, by the rows of the ids in them, and by the rows of those."""


class Copy:
    """
    A copy of the database, which can be restored again and again, on a session of its own.

    Restoring uses DELETE, which takes 5 ms for these two dozen small tables; TRUNCATE takes 130.
    """

    def __init__(self, url: str) -> None:
        self._session = psycopg.connect(url, autocommit=True)
        names = self._session.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'crawlyard_version'"
        )
        self._names = sorted(name for (name,) in names)
        parts = ", ".join(
            f"(SELECT COALESCE(jsonb_agg(to_jsonb(t)), '[]') FROM {source} t)"
            for source in (_READ.get(name, f'"{name}"') for name in self._names)
        )
        self._dump = f"SELECT {parts}"
        self.tables = self.dump()
        self._restore = self._restoring().as_string(self._session)

    def dump(self) -> Tables:
        """Return every row of every table."""
        row = self._session.execute(self._dump.encode()).fetchone()
        assert row is not None
        return dict(zip(self._names, row, strict=True))

    def restore(self) -> None:
        """Restore the database to the copy."""
        self._session.execute(self._restore.encode())

    def close(self) -> None:
        """Close the session."""
        self._session.close()

    def _restoring(self) -> sql.Composed:
        """Return the statements as one text, which is one transaction."""
        steps = [sql.SQL("SET LOCAL session_replication_role = replica")]
        steps += [sql.SQL("DELETE FROM {}").format(sql.Identifier(name)) for name in self._names]
        steps += [
            sql.SQL(
                "INSERT INTO {table} OVERRIDING SYSTEM VALUE"
                " SELECT * FROM jsonb_populate_recordset(NULL::{table}, {rows}::jsonb)"
            ).format(table=sql.Identifier(name), rows=sql.Literal(json.dumps(rows)))
            for name, rows in self.tables.items()
            if rows
        ]
        return sql.SQL("; ").join(steps)


@dataclass(frozen=True)
class Picture:
    """What a run left: rows, and the messages that it published."""

    rows: Counter[str]
    messages: frozenset[str]

    def differences(self, other: "Picture") -> list[str]:
        """Return the rows that only this one has (-), and those that only the other has (+)."""
        return [f"- {row}" for row in (self.rows - other.rows).elements()] + [
            f"+ {row}" for row in (other.rows - self.rows).elements()
        ]


def picture(tables: Tables, messages: Collection[Any], known: Collection[str]) -> Picture:
    """Return the picture of these tables, with all ids renamed except those *known* before the run."""
    rows = [f"{name} {_text(row)}" for name, of_table in tables.items() for row in of_table]
    published = [_text(message) for message in messages]
    names = _names(rows, known)
    return Picture(
        Counter(_renamed(row, names) for row in rows), frozenset(_renamed(b, names) for b in published)
    )


def ids_in(value: Any) -> set[str]:
    """Return all ids in a value."""
    return set(_ULID.findall(json.dumps(value, default=str)))


def _text(row: Any) -> str:
    """Return a row as text without times; an event also without its position in the stream."""
    if isinstance(row, dict) and "xid" in row:
        row = {column: value for column, value in row.items() if column not in ("xid", "id")}
    return _TIME.sub("~", json.dumps(_timeless(row), sort_keys=True, default=str))


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: v is not None if k in _DURATIONS else _timeless(v) for k, v in value.items()}
    return [_timeless(item) for item in value] if isinstance(value, list | tuple) else value


def _names(rows: list[str], known: Collection[str]) -> dict[str, str]:
    """Return a name for each id that is not known, from the rows that contain it."""
    containing: dict[str, list[str]] = {}
    for row in rows:
        for id_ in set(_ULID.findall(row)) - set(known):
            containing.setdefault(id_, []).append(row)
    names = dict.fromkeys(containing, "#")
    for _ in range(_ROUNDS):
        names = {
            id_: _name(sorted(_renamed(row, names | {id_: "#self"}) for row in its))
            for id_, its in containing.items()
        }
    return names


def _name(names: list[str]) -> str:
    return "#" + hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


def _renamed(row: str, names: dict[str, str]) -> str:
    """Return the row with its ids renamed; lists of ids are sorted by name, since their order was random."""
    renamed = _ULID.sub(lambda match: names.get(match[0], match[0]), row)
    return _NAMES.sub(lambda match: json.dumps(sorted(json.loads(match[0]))), renamed)
