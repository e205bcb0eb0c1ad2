"""The table `gitlab_alias`: GitLabs that moved, which each process reads every few seconds."""

from collections.abc import Iterable
from time import monotonic
from typing import Final

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from persistence.schema.gitlabs import use_aliases
from persistence.schema.sql import sql
from persistence.schema.tables import GitlabAlias

AGE_S: Final = 5.0
"""How old the aliases may be by which a unit of work names GitLabs, when it begins."""

_READ = select(GitlabAlias.origin, GitlabAlias.moved_to)

_LOCK = sql("LOCK TABLE gitlab_alias IN SHARE ROW EXCLUSIVE MODE")

_FORGET = sql("DELETE FROM gitlab_alias WHERE origin = :origin")

_ADD = sql("""
    -- What had moved to the former origin before has moved along.
    WITH along AS (UPDATE gitlab_alias SET moved_to = :origin WHERE moved_to = :former)
    INSERT INTO gitlab_alias (origin, moved_to) VALUES (:former, :origin)
    ON CONFLICT (origin) DO UPDATE SET moved_to = excluded.moved_to, moved_at = clock_timestamp(), carried_at = NULL
     WHERE gitlab_alias.moved_to <> excluded.moved_to
    RETURNING origin
""")

_MARK_CARRIED = sql("""
    UPDATE gitlab_alias SET carried_at = clock_timestamp() WHERE origin = :origin AND carried_at IS NULL
""")


class _Loaded:
    at = float("-inf")


class GitlabAliases:
    """The table `gitlab_alias`, and what this process knows of it."""

    def __init__(self, session: Session | Connection) -> None:
        self._session = session

    def keep_fresh(self) -> None:
        """Read the aliases if this process has not done so for AGE_S."""
        if monotonic() > _Loaded.at + AGE_S:
            self.load()

    def load(self) -> dict[str, str]:
        """Read the aliases, and name GitLabs by them from now on; returns them by the former origins."""
        at = monotonic()
        aliases: dict[str, str] = {row.origin: row.moved_to for row in self._session.execute(_READ)}
        use_aliases(aliases)
        _Loaded.at = at
        return aliases

    def lock(self) -> None:
        """Let no other transaction change aliases; what was read before may be old."""
        self._session.execute(_LOCK)

    def add(self, former: str, origin: str) -> bool:
        """Note that a GitLab has moved, or has moved back; false if that was noted before. The table is locked."""
        self._session.execute(_FORGET, {"origin": origin})
        return self._session.execute(_ADD, {"former": former, "origin": origin}).one_or_none() is not None

    def mark_carried(self, origins: Iterable[str]) -> None:
        """Note that nothing is stored under these former origins any more."""
        for origin in origins:
            self._session.execute(_MARK_CARRIED, {"origin": origin})


def loaded() -> None:
    """Take what this process knows of the aliases for fresh."""
    _Loaded.at = monotonic()
