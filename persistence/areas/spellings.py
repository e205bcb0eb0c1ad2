"""The table `path_spelling`: the spellings with capitals of paths, by which persistence/schema/paths.py finds them."""

from collections.abc import Iterable
from typing import Literal

from sqlalchemy.orm import Session

from persistence.schema.paths import key_in, path_key
from persistence.schema.sql import sql

_ADD = sql(
    """
    INSERT INTO path_spelling (path_key, full_path)
    SELECT $key, path FROM unnest(CAST(:paths AS text[])) AS path ORDER BY path COLLATE "C"
    ON CONFLICT DO NOTHING
    """,
    key=key_in("path"),
)


Table = Literal["job", "area"]

_NOTE = """
    WITH page AS MATERIALIZED (
        SELECT $place AS place, full_path FROM $table WHERE $place > :after ORDER BY $place LIMIT :window
    ), added AS (
        INSERT INTO path_spelling (path_key, full_path)
        SELECT DISTINCT $key, full_path FROM page WHERE full_path <> $key ORDER BY 1, 2 ON CONFLICT DO NOTHING
    )
    SELECT CASE WHEN count(*) = :window THEN max(place) END FROM page
"""

_NOTE_IN = {
    table: sql(_NOTE, table=table, place=place, key=key_in("full_path"))
    for table, place in {"job": "id", "area": "full_path"}.items()
}

_WINDOW = 5000
"""Rows that one statement reads."""


class Spellings:
    """The table `path_spelling`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, paths: Iterable[str | None]) -> None:
        """Note the spellings of paths before rows with them are added; those without capitals need no note."""
        spelled = sorted({path for path in paths if path is not None and path != path_key(path)})
        if spelled:
            self._session.execute(_ADD, {"paths": spelled})

    def note(self, table: Table, after: str) -> str | None:
        """
        Note the spellings in a range of a table that begins after this place; returns where the next begins, if any.

        Rows may be unknown that the web app, or a worker of an older version, has inserted.
        """
        place: str | None = self._session.scalars(_NOTE_IN[table], {"after": after, "window": _WINDOW}).one()
        return place
