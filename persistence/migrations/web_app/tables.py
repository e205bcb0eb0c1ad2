"""
Checks that the web app's tables are usable as they are: their columns, types, keys, defaults and constraints.

Whoever migrates, starts a worker or asks the doctor gets the same answer. All faults are named at once, with the
statements that repair them. docs/operations.md says what is refused, and why.
"""

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from persistence.exceptions import IllegalRequestError, SettingsError
from persistence.migrations.web_app.catalogue import COLUMNS, KEEPING_LINKS, UNIQUE_INDEXES
from persistence.migrations.web_app.checks import of_rows, of_words
from persistence.migrations.web_app.repairs import Column, Fault, listed, quoted, repairs
from persistence.migrations.web_app.rules import INSERTED, KEYS, OLDER_TIMES, RULES, Kind, Rule
from persistence.schema import Base
from persistence.settings import PREFIX, settings

TIMESTAMPS = f"{PREFIX}TIMESTAMPS"

_PATH = text("SELECT current_setting('search_path')")

_USUAL_PATH = '"$user", public'

_BASES = {
    Kind.TEXT: {"text", "varchar"},
    Kind.WORD: {"text", "varchar", "e"},
    Kind.TIME: {"timestamptz"},
    Kind.JSON: {"jsonb"},
}
"""The types of each kind, as `base` names them: the base type's name, or `e` for an enum."""

_WITHOUT_ZONE = "timestamp"

_TABLES = {"r", "p"}
"""The kinds of relations that are tables, plain or partitioned."""


@dataclass(frozen=True)
class WebAppTables:
    """What the web app's tables are like."""

    faults: Sequence[Fault]
    repair: str
    """The statements that repair the faults, in one line."""
    times_without_zone: int
    """The columns that are read and written in UTC because the setting says so."""

    @property
    def complaint(self) -> str:
        """All faults, in one line; those of one kind together."""
        places: dict[str, list[str]] = {}
        for fault in self.faults:
            places.setdefault(fault.what, []).append(fault.where)
        return "; ".join(f"{', '.join(where)} {_agreeing(what, where)}" for what, where in places.items())


def require_usable(connection: Connection, *, older: AbstractSet[str] = frozenset()) -> None:
    """
    Raise IllegalRequestError if the web app's tables cannot be used as they are; nothing is changed.

    Its text has the statements that the database's owner must run. *older* are tables of an older component.
    """
    found = examine(connection, older=older)
    if found.faults:
        repair = f" Its owner must first run: {found.repair}" if found.repair else ""
        raise IllegalRequestError(
            f"The web app's tables cannot be used as they are: {found.complaint}.{repair}"
        )


def examine(connection: Connection, *, older: AbstractSet[str] = frozenset()) -> WebAppTables:
    """Compare the web app's tables that exist, and an *older* component's, with what we need of them."""
    columns = connection.execute(COLUMNS, {"names": sorted({*RULES, *older})}).all()
    in_utc = _is_all_utc()
    faults = [
        *_missing(columns),
        *(fault for column in columns for fault in _of_column(column, in_utc=in_utc)),
        *_of_keys(
            connection.execute(UNIQUE_INDEXES, {"names": list(RULES)}).all(),
            {column.table for column in columns if column.kind in _TABLES},
        ),
        *_of_links(connection.execute(KEEPING_LINKS).all()),
        *of_words(connection),
    ]
    faults += of_rows(connection, RULES.keys() - {fault.table for fault in faults})
    without_zone = sum(column.base == _WITHOUT_ZONE and _is_time(column) for column in columns)
    return WebAppTables(faults, _repair(connection, faults), without_zone if in_utc else 0)


def _repair(connection: Connection, faults: Sequence[Fault]) -> str:
    """The statements that repair these, as they are run in any session; empty if there are none."""
    statements = repairs(connection, faults) if faults else ""
    path = connection.execute(_PATH).scalar_one()
    return f"SET search_path TO {path}; {statements}" if statements and path != _USUAL_PATH else statements


def _agreeing(what: str, where: Sequence[str]) -> str:
    verb, space, rest = what.partition(" ")
    return {"is": "are", "has": "have"}.get(verb, verb) + space + rest if len(where) > 1 else what


def _missing(columns: Sequence[Row[Any]]) -> Iterator[Fault]:
    """Tables that are none, whose keys and NOT NULLs are those of other tables, and columns that are not there."""
    present: dict[str, set[str]] = {}
    for column in columns:
        present.setdefault(column.table, set()).add(column.name)
    for table in sorted({column.table for column in columns if column.kind not in _TABLES}):
        yield Fault(f'"{table}"', "is no table of its own, but shows another's rows")
    for table in RULES.keys() & present.keys():
        if missing := set(Base.metadata.tables[table].columns.keys()) - present[table]:
            yield Fault(f'table "{table}"', f"exists but lacks {', '.join(sorted(missing))}")


def _is_all_utc() -> bool:
    """Whether times without a zone are UTC; not in a process without settings, whose tables are all ours."""
    try:
        return settings().timestamps == "utc"
    except SettingsError:
        return False


def _is_time(column: Row[Any]) -> bool:
    rule = RULES.get(column.table, {}).get(column.name)
    return rule.kind == Kind.TIME if rule else column.name in OLDER_TIMES.get(column.table, ())


def _of_column(column: Row[Any], *, in_utc: bool) -> Iterator[Fault]:
    where = f"{column.table}.{column.name}"
    table = f"ALTER TABLE {column.table_name}"
    change = f"{table} ALTER COLUMN {quoted(column.name)}"
    rule = RULES.get(column.table, {}).get(column.name)
    if _is_time(column) and column.base == _WITHOUT_ZONE:
        if not in_utc:
            what = (
                f"is timestamp without time zone (set {TIMESTAMPS}=utc if all that is written there is UTC, or "
                "repair it)"
            )
            yield Fault(where, what, Column(column.table_name, column.name), "timestamptz")
    elif rule is not None:
        yield from _of_type(column, rule, where)
    if rule is not None and rule.is_emptied and column.is_required and not column.is_key:
        yield Fault(
            where, "is NOT NULL, and Crawlyard writes NULL there", statement=f"{change} DROP NOT NULL;"
        )
    if column.table not in INSERTED:
        return
    if column.is_generated and (rule is not None or column.name in INSERTED[column.table]):
        yield Fault(where, "is generated, and Crawlyard writes it", statement=f"{change} DROP EXPRESSION;")
    elif _needs_default(column):
        what = "is NOT NULL without a default, and Crawlyard inserts rows"
        yield Fault(where, what, statement=_defaulted(column, change))


def _needs_default(column: Row[Any]) -> bool:
    given = column.has_default or column.is_generated or column.name in INSERTED[column.table]
    return column.is_required and not given


def _of_type(column: Row[Any], rule: Rule, where: str) -> Iterator[Fault]:
    at = Column(column.table_name, column.name)
    if column.base not in _BASES[rule.kind]:
        to_type = "text" if rule.kind == Kind.WORD else rule.kind.value
        # No text is an identity column; who inserts there must then say the id.
        identity = (
            f"ALTER TABLE {at.table} ALTER COLUMN {quoted(at.name)} DROP IDENTITY;"
            if column.is_identity
            else ""
        )
        what = f"is {column.type}, not {rule.kind.value}"
        yield Fault(where, what, at, to_type, _using(column, to_type), before=identity)
    elif column.loose_collation:
        what = f"has the collation {column.loose_collation}, by which texts that differ are equal"
        yield Fault(where, what, at, "text")
    elif column.length is not None and column.length < rule.length:
        yield Fault(where, f"is too short as {column.type}: it needs {rule.length}", at, "varchar")
    elif column.base == "e" and (lacking := sorted(rule.labels - set(column.labels))):
        adding = " ".join(f"ALTER TYPE {column.type_name} ADD VALUE '{label}';" for label in lacking)
        yield Fault(where, f"is an enum without {listed(lacking)}", statement=adding)


def _using(column: Row[Any], to_type: str) -> str:
    name = quoted(column.name)
    if (column.table, column.name) == ("area", "gitlab_id"):
        return f"'gid://gitlab/' || initcap(type::text) || '/' || {name}"
    if to_type == "text":
        return ""
    return f"{name}::text::{to_type}"


def _defaulted(column: Row[Any], change: str) -> str:
    if column.base in ("timestamptz", _WITHOUT_ZONE, "date"):
        return f"{change} SET DEFAULT now();"
    if column.is_key:
        return f"{change} SET DEFAULT gen_random_uuid(){'' if column.base == 'uuid' else '::text'};"
    return f"{change} DROP NOT NULL;"


def _of_keys(indexes: Sequence[Row[Any]], present: AbstractSet[str]) -> Iterator[Fault]:
    keys = {
        (index.table, frozenset(index.columns)) for index in indexes if index.is_immediate and index.is_whole
    }
    for table, columns in KEYS:
        if table in present and (table, frozenset(columns)) not in keys:
            names = ", ".join(map(quoted, columns))
            add = f"ALTER TABLE {quoted(table)} ADD UNIQUE ({names});"
            yield Fault(f"{table} ({', '.join(columns)})", "is not unique", statement=add)
    for index in indexes:
        if not index.is_immediate and index.table in INSERTED:
            name, names = quoted(index.constraint), ", ".join(map(quoted, index.columns))
            again = f"DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {index.kind} ({names});"
            yield Fault(
                f"{index.table}: {index.constraint}",
                "is deferrable, and ON CONFLICT refuses such a key",
                statement=f"ALTER TABLE {index.table_name} {again}",
            )


def _of_links(references: Iterable[Row[Any]]) -> Iterator[Fault]:
    for reference in references:
        name = quoted(reference.name)
        definition = reference.definition.partition(" ON DELETE ")[0] + " ON DELETE CASCADE"
        yield Fault(
            f"job_area: {reference.name}",
            "does not cascade, so that no job could ever be deleted",
            statement=f"ALTER TABLE {reference.table_name} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {definition};",
        )
