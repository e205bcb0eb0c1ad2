"""The statements that repair a web app's table, for its owner to run: Crawlyard alters none of these tables."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import dialect

_FOREIGN_KEYS = text("""
    SELECT reference.conname AS name, reference.conrelid::regclass::text AS child,
           reference.confrelid::regclass::text AS parent, pg_get_constraintdef(reference.oid) AS definition,
           (SELECT array_agg(attname::text ORDER BY place)
              FROM unnest(reference.conkey) WITH ORDINALITY AS key(attnum, place)
              JOIN pg_attribute a ON a.attrelid = reference.conrelid AND a.attnum = key.attnum) AS child_columns,
           (SELECT array_agg(attname::text ORDER BY place)
              FROM unnest(reference.confkey) WITH ORDINALITY AS key(attnum, place)
              JOIN pg_attribute a ON a.attrelid = reference.confrelid AND a.attnum = key.attnum) AS parent_columns
      FROM pg_constraint reference WHERE reference.contype = 'f' AND reference.conparentid = 0
     ORDER BY child, name
""")

_PREPARER: Any = dialect().identifier_preparer  # type: ignore[no-untyped-call]


class Column(NamedTuple):
    """A column, its table as SQL names it."""

    table: str
    name: str


@dataclass(frozen=True)
class Fault:
    """What is wrong with a column or a table of the web app's, and what repairs it."""

    where: str
    what: str
    column: Column | None = None
    to_type: str = ""
    using: str = ""
    """If the column needs another type: which, and how its values become it."""
    before: str = ""
    """What must be done before."""
    statement: str = ""
    """If another statement repairs it."""

    @property
    def table(self) -> str:
        """The name of the table, as `where` begins with it."""
        return re.split(r"[.:( ]", self.where.removeprefix("table ").strip('"'))[0].strip('"')


def quoted(name: str) -> str:
    """The name as SQL has it, in quotes where it needs them."""
    return str(_PREPARER.quote(name))


def listed(words: Iterable[str]) -> str:
    """The words as SQL has them, separated by commas."""
    return ", ".join(f"'{word}'" for word in words)


def repairs(connection: Connection, faults: Iterable[Fault]) -> str:
    """Return the statements that repair these, in one line, in an order in which they can be run."""
    faults = list(faults)
    retyped = {
        fault.column: (fault.to_type, fault.using) for fault in faults if fault.column and fault.to_type
    }
    before, after = _references(connection, retyped)
    by_table: dict[str, list[str]] = {}
    for column, (to_type, using) in retyped.items():
        name = quoted(column.name)
        change = f"ALTER COLUMN {name} TYPE {to_type}" + (f" USING {using}" if using else "")
        by_table.setdefault(column.table, []).append(change)
    changes = [f"ALTER TABLE {table} {', '.join(columns)};" for table, columns in by_table.items()]
    # Then no row is written again: the zone of all values is the session's.
    zone = ["SET TimeZone = 'UTC';"] if any(to == "timestamptz" for to, _ in retyped.values()) else []
    first = [fault.before for fault in faults if fault.before]
    others = [fault.statement for fault in faults if fault.statement]
    return " ".join([*zone, *before, *first, *changes, *after, *dict.fromkeys(others)])


def _references(
    connection: Connection, retyped: dict[Column, tuple[str, str]]
) -> tuple[list[str], list[str]]:
    """
    Add the columns at the other end of foreign keys to *retyped*: both ends must have one type.

    Returns the statements that drop these foreign keys, and those that add them again.
    """
    to_text = {column for column, (to_type, using) in retyped.items() if to_type == "text"}
    if not to_text:
        return [], []
    references = connection.execute(_FOREIGN_KEYS).all()
    touched: dict[tuple[str, str], str] = {}
    for _ in range(len(references) + 1):
        size = len(to_text)
        for key in references:
            pairs = [
                (Column(key.child, child), Column(key.parent, parent))
                for child, parent in zip(key.child_columns, key.parent_columns, strict=True)
            ]
            changed = [pair for pair in pairs if to_text & set(pair)]
            to_text.update(column for pair in changed for column in pair)
            if changed:
                touched[key.child, key.name] = key.definition
        if len(to_text) == size:
            break
    for column in sorted(to_text - retyped.keys()):
        retyped[column] = ("text", "")
    drops = [f"ALTER TABLE {table} DROP CONSTRAINT {quoted(name)};" for table, name in touched]
    adds = [
        f"ALTER TABLE {table} ADD CONSTRAINT {quoted(name)} {definition};"
        for (table, name), definition in touched.items()
    ]
    return drops, adds
