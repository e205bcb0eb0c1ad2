"""The table `path_spelling`: the spellings with capitals of paths, by which persistence/schema/paths.py finds them."""

from collections.abc import Iterable
from typing import Literal

from sqlalchemy.orm import Session

from persistence.schema.paths import key_in, path_key
from persistence.schema.sql import sql

_ADD = sql(
    """
    INSERT INTO path_spelling (path_key, full_path)
    SELECT $key, path FROM unnest(CAST(:paths AS text[])) AS path
     WHERE NOT EXISTS (SELECT FROM path_spelling known WHERE known.path_key = $key AND known.full_path = path
                          AND known.noted_at > now() - interval '1 day')
     ORDER BY path COLLATE "C"
    -- Whoever forgets it at this moment waits for us, and finds that it is news; or we wait, and add it anew.
    ON CONFLICT (path_key, full_path) DO UPDATE SET noted_at = excluded.noted_at
    """,
    key=key_in("path"),
)

_FORGET = sql("""
    WITH page AS MATERIALIZED (
        SELECT path_key, full_path FROM path_spelling WHERE (path_key, full_path) > (:key, :path)
         ORDER BY path_key, full_path LIMIT :window
    ), unused AS (
        DELETE FROM path_spelling USING page
         WHERE path_spelling.path_key = page.path_key AND path_spelling.full_path = page.full_path
           AND noted_at < now() - interval '2 days'
           AND NOT EXISTS (SELECT FROM job WHERE job.full_path = page.full_path)
           AND NOT EXISTS (SELECT FROM area WHERE area.full_path = page.full_path)
    )
    SELECT path_key, full_path FROM page ORDER BY path_key DESC, full_path DESC LIMIT 1
""")


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

    def forget_unused(self, key: str, path: str) -> tuple[str, str] | None:
        """
        Delete spellings that no job and no area has had for two days, in a range that begins after this one.

        Returns where the next range begins, if any.
        """
        row = self._session.execute(_FORGET, {"key": key, "path": path, "window": _WINDOW}).one_or_none()
        return None if row is None else (row.path_key, row.full_path)

    def note(self, table: Table, after: str) -> str | None:
        """
        Note the spellings in a range of a table that begins after this place; returns where the next begins, if any.

        Rows may be unknown that the web app, or a worker of an older version, has inserted.
        """
        place: str | None = self._session.scalars(_NOTE_IN[table], {"after": after, "window": _WINDOW}).one()
        return place
