"""Reads under which names of GitLabs rows of ours are stored, chunk by chunk, without locks."""

from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from persistence.schema.ids import JobId
from persistence.schema.sql import sql

_URLS = sql("""
    SELECT max(chunk.id) AS last, array_agg(DISTINCT job."gitlabGraphQLUrl") AS urls
      FROM (SELECT id, web_app_job_id FROM job_queue WHERE id > :after ORDER BY id LIMIT :limit) chunk
      JOIN job ON job.id = chunk.web_app_job_id
""")

_ENTRIES = sql("""
    SELECT job.id, q.host, q.identity, job.command::text AS command, job."gitlabGraphQLUrl" AS url, job.full_path,
           job.branch, job."accountId" AS account_id
      FROM job_queue q JOIN job ON job.id = q.web_app_job_id
     WHERE q.id > :after AND q.id <= :last AND job."gitlabGraphQLUrl" IN (SELECT unnest(CAST(:urls AS text[])))
""")

_AREAS = sql("SELECT full_path, host FROM area_host WHERE full_path > :after ORDER BY full_path LIMIT :limit")

_SPELLED = sql("SELECT url FROM gitlab_spelling")


class StoredEntry(NamedTuple):
    """The names in a queue entry, and its job as it was read."""

    id: JobId
    host: str
    identity: str | None
    command: str
    url: str
    full_path: str | None
    branch: str | None
    account_id: str


class StoredNames:
    """Lookups of stored names."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def urls(self, after: str, limit: int) -> tuple[str | None, list[str]]:
        """Of the next *limit* entries the last id, None at the end, and the URLs of their jobs, each once."""
        row: Any = self._session.execute(_URLS, {"after": after, "limit": limit}).one()
        return row.last, [url for url in row.urls or () if url is not None]

    def entries(self, after: str, last: str, urls: Collection[str]) -> list[StoredEntry]:
        """The entries in this range of ids whose jobs have these URLs."""
        values = {"after": after, "last": last, "urls": list(urls)}
        return [StoredEntry(*row) for row in self._session.execute(_ENTRIES, values)]

    def areas(self, after: str, limit: int) -> dict[str, str]:
        """The hosts of the next *limit* areas, by path, in order."""
        rows = self._session.execute(_AREAS, {"after": after, "limit": limit})
        return {row.full_path: row.host for row in rows}

    def spelled_urls(self) -> list[str]:
        """The URLs whose host is noted."""
        return list(self._session.scalars(_SPELLED))
