"""The table `path_spelling`: the spellings with capitals of paths, by which persistence/schema/paths.py finds them."""

from collections.abc import Iterable

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


class Spellings:
    """The table `path_spelling`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, paths: Iterable[str | None]) -> None:
        """Note the spellings of paths before rows with them are added; those without capitals need no note."""
        spelled = sorted({path for path in paths if path is not None and path != path_key(path)})
        if spelled:
            self._session.execute(_ADD, {"paths": spelled})
