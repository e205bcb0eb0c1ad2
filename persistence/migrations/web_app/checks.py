"""
Whether the CHECKs of the web app's tables accept what we write.

One of a single column is tried with each word that we write there, one of several with each kind of row (`rows`). What
no such row decides, such as the length of a path, is refused by the database when it comes, and rejected by name.
"""

import json
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from sqlalchemy import Connection, Row, TextClause
from sqlalchemy.exc import DBAPIError

from persistence.migrations.web_app.catalogue import CHECKS, REFUSED_LABELS, REFUSED_ROW
from persistence.migrations.web_app.repairs import Fault, listed, quoted
from persistence.migrations.web_app.rows import ROWS
from persistence.migrations.web_app.rules import RULES
from persistence.schema.sql import sql


def of_words(connection: Connection) -> Iterator[Fault]:
    """CHECKs of a single column that refuse a word of ours."""
    for check in connection.execute(CHECKS, {"names": list(RULES)}).all():
        if len(check.columns) != 1 or check.type not in ("text", "character varying"):
            continue
        (column,) = check.columns
        if (rule := RULES[check.table].get(column)) is None or not rule.labels:
            continue
        expression = _without_parameters(check.expression)
        statement = sql(REFUSED_LABELS, column=quoted(column), type=check.type, expression=expression)
        if refused := connection.scalars(statement, {"labels": sorted(rule.labels)}).all():
            what = f"has the constraint {check.name}, which refuses {listed(refused)}"
            yield Fault(f"{check.table}.{column}", what, statement=_drop(check))


def of_rows(connection: Connection, tables: AbstractSet[str]) -> list[Fault]:
    """CHECKs of several columns that refuse a row of ours; *tables* are those whose columns are as we need them."""
    faults = []
    for check in connection.execute(CHECKS, {"names": sorted(tables & ROWS.keys())}).all():
        rows = ROWS[check.table]
        if len(check.columns) < 2 or not rows[0].keys() >= set(check.columns):  # noqa: PLR2004 - several
            continue
        expression = _without_parameters(check.expression)
        statement = sql(REFUSED_ROW, table=check.table_name, expression=expression)
        if place := _first(connection, statement, json.dumps(rows)):
            row = {column: rows[place - 1][column] for column in check.columns}
            what = f"has the constraint {check.name}, which refuses a row with {_described(row)}"
            faults.append(Fault(check.table, what, statement=_drop(check)))
    return faults


def _first(connection: Connection, statement: TextClause, rows: str) -> int | None:
    """The place of the first row that is refused; none if the expression cannot be evaluated for ours."""
    try:
        with connection.begin_nested():
            place: int | None = connection.scalar(statement, {"rows": rows})
    except DBAPIError:
        return None
    return place


def _without_parameters(expression: str) -> str:
    """The colons of casts and of texts are no parameters."""
    return expression.replace("\\", "\\\\").replace(":", "\\:")


def _described(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {'NULL' if value is None else listed([value])}" for name, value in row.items())


def _drop(check: Row[Any]) -> str:
    return f"ALTER TABLE {check.table_name} DROP CONSTRAINT {quoted(check.name)};"
