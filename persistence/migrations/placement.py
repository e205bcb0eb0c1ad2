"""Where search_path finds the tables. It is the operator's; we only check that it leads to one set of tables."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

from persistence.migrations.scope import VERSION_TABLE
from persistence.schema import Base, web_app

_PLACES = text("""
    -- The schemas of the path in its order; the first is the one that a name without a schema means.
    SELECT relname, array_agg(nspname::text ORDER BY place)
      FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
           JOIN unnest(current_schemas(false)) WITH ORDINALITY AS path(schema, place) ON schema = nspname
     WHERE relname = ANY(:names) AND relkind IN ('r', 'p', 'v', 'f')
     GROUP BY relname
""")

_WEB_APP = frozenset(
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
        return _first(self.schemas, self.schemas.keys() - _WEB_APP)

    @property
    def web_apps(self) -> list[str]:
        """The schemas of the web app's tables."""
        return _first(self.schemas, self.schemas.keys() & _WEB_APP)

    @property
    def twofold(self) -> list[str]:
        """The tables of which search_path hides a second one."""
        return sorted(name for name, found in self.schemas.items() if len(found) > 1)


def read_placement(connection: Connection) -> Placement:
    """Look up all tables by their names, as statements do."""
    names = [*Base.metadata.tables, VERSION_TABLE]
    return Placement(dict(connection.execute(_PLACES, {"names": names}).all()))


def _first(schemas: Mapping[str, list[str]], names: Collection[str]) -> list[str]:
    return sorted({schemas[name][0] for name in names})
