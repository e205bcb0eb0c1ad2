"""
Where search_path finds the tables. It is the operator's; we only check that it leads to one set of tables.

A table that it does not find, but which another schema has, is no reason to make a second one: `require_placement`.
"""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from urllib.parse import quote

from sqlalchemy import Connection, text

from persistence.exceptions import IllegalRequestError
from persistence.migrations.scope import VERSION_TABLE
from persistence.migrations.web_app.repairs import quoted
from persistence.schema import Base, web_app

_PLACES = text("""
    -- The schemas of the path in its order; the first is the one that a name without a schema means.
    SELECT relname, array_agg(nspname::text ORDER BY place)
      FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
           JOIN unnest(current_schemas(false)) WITH ORDINALITY AS path(schema, place) ON schema = nspname
     WHERE relname = ANY(:names) AND relkind IN ('r', 'p', 'v', 'f')
     GROUP BY relname
""")

_PATH = text("SELECT current_schemas(false), current_setting('search_path')")

_ELSEWHERE = text("""
    SELECT relname, array_agg(nspname::text ORDER BY nspname)
      FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
     WHERE relname = ANY(:names) AND relkind IN ('r', 'p', 'v', 'm', 'f')
       AND nspname <> ALL (current_schemas(false)) AND nspname !~ '^(pg_|information_schema$)'
       -- pg_cron has a table `job`
       AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND classid = 'pg_class'::regclass
                          AND deptype = 'e')
     GROUP BY relname ORDER BY relname
""")

_OURS_ELSEWHERE = text("""
    SELECT DISTINCT nspname::text
      FROM pg_constraint reference
      JOIN pg_class ON pg_class.oid = reference.conrelid AND relname = 'job_queue'
      JOIN pg_namespace n ON n.oid = relnamespace
     WHERE reference.contype = 'f' AND reference.confrelid = to_regclass('job')
       AND nspname <> ALL (current_schemas(false))
       AND EXISTS (SELECT FROM pg_class version WHERE version.relnamespace = n.oid AND version.relname = :version)
""")

WEB_APP = frozenset(
    mapper.local_table.name  # type: ignore[attr-defined]
    for mapper in Base.registry.mappers
    if mapper.class_.__module__ == web_app.__name__
)


@dataclass(frozen=True)
class Placement:
    """The schemas in which search_path finds each table that exists, the one that counts first."""

    schemas: Mapping[str, list[str]]

    @property
    def ours(self) -> list[str]:
        """The schemas of Crawlyard's own tables; more than one is a mixture of two installations."""
        return _first(self.schemas, self.schemas.keys() - WEB_APP)

    @property
    def web_apps(self) -> list[str]:
        """The schemas of the web app's tables."""
        return _first(self.schemas, self.schemas.keys() & WEB_APP)

    @property
    def twofold(self) -> list[str]:
        """The tables of which search_path hides a second one."""
        return sorted(name for name, found in self.schemas.items() if len(found) > 1)


def require_placement(connection: Connection, *, is_new: bool) -> frozenset[str]:
    """
    Return the tables that search_path finds.

    Raises IllegalRequestError if it leads nowhere, or if tables that a migration would create are in another schema:
    the web app's, or ours in a database that *is_new* to us.
    """
    schemas, path = connection.execute(_PATH).one()
    if not schemas:
        raise IllegalRequestError(
            f"search_path ({path}) names no schema that exists and that we may use: create it, or correct "
            "DATABASE_URL."
        )
    found = frozenset(read_placement(connection).schemas)
    if elsewhere := _find_elsewhere(connection, WEB_APP - found):
        _refuse_second(path, elsewhere, is_split=bool(found & WEB_APP))
    if is_new and (ours := connection.scalars(_OURS_ELSEWHERE, {"version": VERSION_TABLE}).all()):
        raise IllegalRequestError(
            f"Crawlyard's tables for this job table are in schema {ours[0]}, where search_path ({path}) does not find "
            f"them: {_remedy(ours[0], path, is_split=True)}"
        )
    return found


def hidden_schemas(connection: Connection) -> list[str]:
    """The schemas that have a revision of ours, and that search_path does not find."""
    return _find_elsewhere(connection, {VERSION_TABLE}).get(VERSION_TABLE, [])


def _find_elsewhere(connection: Connection, names: AbstractSet[str]) -> dict[str, list[str]]:
    """Find the schemas outside search_path that have tables of these names, by the name."""
    return dict(connection.execute(_ELSEWHERE, {"names": sorted(names)}).all())


def _refuse_second(path: str, elsewhere: Mapping[str, list[str]], *, is_split: bool) -> None:
    names = ", ".join(f'"{name}"' for name in elsewhere)
    schemas = sorted({schema for found in elsewhere.values() for schema in found})
    raise IllegalRequestError(
        f"search_path ({path}) finds no {names}, but schema {' and '.join(schemas)} has: no second one is made. "
        f"{_remedy(schemas[0], path, is_split=is_split)} If what is there belongs to another application, create the "
        "web app's own tables first."
    )


def _remedy(schema: str, path: str, *, is_split: bool) -> str:
    if not is_split:
        return f"Add ?schema={quote(schema)} to DATABASE_URL."
    return (
        "Leave ?schema= out of DATABASE_URL, and set search_path for its role so that it finds all tables, such as "
        f"ALTER ROLE … SET search_path TO {path}, {quoted(schema)}."
    )


def read_placement(connection: Connection) -> Placement:
    """Look up all tables by their names, as statements do."""
    names = [*Base.metadata.tables, VERSION_TABLE]
    return Placement(dict(connection.execute(_PLACES, {"names": names}).all()))


def _first(schemas: Mapping[str, list[str]], names: Collection[str]) -> list[str]:
    return sorted({schemas[name][0] for name in names})
