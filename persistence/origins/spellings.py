"""The table `gitlab_spelling`: the hosts of URLs in whose spelling SQL does not find them."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from persistence.schema.gitlabs import host_of, needs_note
from persistence.schema.sql import sql

_NOTE = sql("""
    -- What is noted already is only read: concurrent units do not wait for each other.
    INSERT INTO gitlab_spelling (url, host)
    SELECT new.url, new.host FROM unnest(CAST(:urls AS text[]), CAST(:hosts AS text[])) AS new(url, host)
     WHERE NOT EXISTS (SELECT FROM gitlab_spelling known WHERE known.url = new.url AND known.host = new.host)
     ORDER BY new.url COLLATE "C"
    ON CONFLICT (url) DO UPDATE SET host = excluded.host
""")


class GitlabSpellings:
    """The table `gitlab_spelling`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def note(self, urls: Iterable[str | None]) -> None:
        """Note the hosts of these URLs before statements read them; a plain URL needs no note."""
        spelled = sorted({url for url in urls if url is not None and needs_note(url)})
        if spelled:
            values = {"urls": spelled, "hosts": [host_of(url) for url in spelled]}
            self._session.execute(_NOTE, values)
