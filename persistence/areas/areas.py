"""
Areas: the GitLab groups and projects that jobs are about.

The tables are the web app's: there is one area per path and one per GitLab id, whatever the host. Paths that differ in
case alone are one path on one host; on two hosts they are two areas.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Row, TextClause
from sqlalchemy.orm import Session

from persistence.schema.commands import AreaType
from persistence.schema.gitlabs import HOST, host_in, is_same, known_host
from persistence.schema.ids import JobId
from persistence.schema.paths import all_spellings_of, key_in, spellings_of
from persistence.schema.sql import fragment, sql

HOST_OF_AREA = fragment(
    """
    -- The shared table has no host. If we did not discover the area, its jobs tell the host, if they agree.
    COALESCE((SELECT host FROM area_host known WHERE known.full_path = area.full_path),
             (SELECT CASE WHEN min($host) = max($host) THEN min($host) END FROM job
               WHERE job.full_path = ANY ($spellings) AND job."gitlabGraphQLUrl" IS NOT NULL))
    """,
    host=HOST,
    spellings=spellings_of("area.full_path"),
)
"""The host of an area's GitLab, as SQL; NULL if it is not known."""

_ADD = sql(
    """
    INSERT INTO area (full_path, gitlab_id, name, type)
    SELECT r.full_path, r.gitlab_id, r.name, r.type
      FROM jsonb_populate_recordset(NULL::area, CAST(:rows AS jsonb)) r
     WHERE NOT EXISTS (SELECT FROM area WHERE area.full_path = ANY ($spellings) AND area.full_path <> r.full_path
                          AND COALESCE($host = $new_host, $host IS NULL))
     ORDER BY r.full_path COLLATE "C"
    ON CONFLICT DO NOTHING RETURNING full_path
    """,
    host=HOST_OF_AREA,
    new_host=host_in("(CAST(:urls AS jsonb) ->> r.full_path)"),
    spellings=spellings_of("r.full_path"),
)

_CORRECT = sql("""
    UPDATE area SET gitlab_id = r.gitlab_id, name = r.name, type = r.type
      FROM jsonb_populate_recordset(NULL::area, CAST(:rows AS jsonb)) r WHERE area.full_path = r.full_path
""")

_LINK = sql(
    """
    INSERT INTO job_area ("jobId", full_path)
    SELECT link.job_id, area.full_path
      FROM unnest(CAST(:job_ids AS text[]), CAST(:paths AS text[])) AS link(job_id, path)
     CROSS JOIN LATERAL (
           SELECT area.full_path FROM area
            WHERE area.full_path = ANY ($spellings)
              AND (area.full_path = link.path
                   OR COALESCE($area_host = (SELECT $host FROM job WHERE job.id = link.job_id), true))
            ORDER BY area.full_path = link.path DESC LIMIT 1) area
     ORDER BY link.job_id COLLATE "C"
    ON CONFLICT DO NOTHING
    """,
    area_host=HOST_OF_AREA,
    host=HOST,
    spellings=spellings_of("link.path"),
)

_KNOWN = fragment(
    """
    SELECT area.full_path, area.gitlab_id, area.name, area.type::text AS type, $host AS host
      FROM area
     WHERE area.full_path = ANY ($spellings) OR area.gitlab_id = ANY (CAST(:ids AS text[]))
     ORDER BY area.full_path COLLATE "C"
    """,
    host=HOST_OF_AREA,
    spellings=all_spellings_of(":paths"),
)

_FIND = sql("$known", known=_KNOWN)

_LOCK = sql("$known FOR NO KEY UPDATE OF area", known=_KNOWN)

_IDS_AT = sql(
    """
    SELECT asked.path, area.gitlab_id FROM unnest(CAST(:paths AS text[])) AS asked(path)
     CROSS JOIN LATERAL (SELECT gitlab_id FROM area WHERE full_path = ANY ($spellings)
                          ORDER BY full_path = asked.path DESC LIMIT 1) area
    """,
    spellings=spellings_of("asked.path"),
)

_BELOW = sql(
    "SELECT full_path FROM area WHERE starts_with($path, $group || '/')",
    path=key_in("full_path"),
    group=key_in("CAST(:group AS text)"),
)

_USED_BY_OTHERS = sql(
    """
    SELECT area_id AS full_path, NULL AS url, false AS by_job FROM area_authorization
     WHERE area_id = ANY (CAST(:paths AS text[])) AND "accountId" <> :account_id
    UNION
    SELECT asked.path, job."gitlabGraphQLUrl", true FROM unnest(CAST(:paths AS text[])) AS asked(path)
      JOIN job ON job.full_path = ANY ($spellings) AND job."accountId" <> :account_id
    """,
    spellings=spellings_of("asked.path"),
)

_LINK_FOUND = sql(
    """
    INSERT INTO job_area ("jobId", full_path)
    SELECT job.id, area.full_path FROM area
      JOIN job ON job.full_path = ANY ($spellings)
      JOIN job_queue q ON q.web_app_job_id = job.id AND q.data ->> 'entity_id' = area.gitlab_id
     WHERE area.full_path = ANY (CAST(:paths AS text[]))
     ORDER BY job.id COLLATE "C"
    ON CONFLICT DO NOTHING
    """,
    spellings=spellings_of("area.full_path"),
)

_AUTHORIZE = sql("""
    INSERT INTO area_authorization ("accountId", area_id)
    SELECT :account_id, path FROM unnest(CAST(:paths AS text[])) path ORDER BY path COLLATE "C"
    ON CONFLICT DO NOTHING
""")

_AUTHORIZED = sql("""
    SELECT area_id FROM area_authorization
     WHERE "accountId" = :account_id AND area_id = ANY (CAST(:paths AS text[]))
""")

_COUNT_AUTHORIZED = sql("""
    SELECT count(*) FROM (SELECT FROM area_authorization WHERE "accountId" = :account_id LIMIT :limit) authorized
""")

_SET_HOST = sql("""
    INSERT INTO area_host (full_path, host)
    SELECT path, :host FROM unnest(CAST(:paths AS text[])) path ORDER BY path COLLATE "C"
    ON CONFLICT (full_path) DO UPDATE SET host = excluded.host WHERE area_host.host <> excluded.host
""")

_RENAME_HOST = sql("""
    UPDATE area_host SET host = :host WHERE full_path = ANY (CAST(:paths AS text[])) AND host = :former
""")

_MOVE = sql("""
    -- One statement, since foreign keys are checked at its end: no row may refer to a path that does not exist.
    WITH moved AS (
        SELECT * FROM unnest(CAST(:formers AS text[]), CAST(:paths AS text[])) AS m(former, path)
    ), areas AS (
        UPDATE area SET full_path = moved.path FROM moved WHERE area.full_path = moved.former
    ), authorizations AS (
        UPDATE area_authorization SET area_id = moved.path FROM moved WHERE area_id = moved.former
    ), hosts AS (
        DELETE FROM area_host USING moved WHERE area_host.full_path = moved.former
    )
    UPDATE job_area SET full_path = moved.path FROM moved WHERE job_area.full_path = moved.former
""")

_MERGE = sql("""
    WITH moved AS (
        SELECT * FROM unnest(CAST(:formers AS text[]), CAST(:paths AS text[])) AS m(former, path)
    ), authorizations AS (
        INSERT INTO area_authorization ("accountId", area_id)
        SELECT "accountId", moved.path FROM area_authorization JOIN moved ON area_id = moved.former
        ON CONFLICT DO NOTHING
    ), authorizations_gone AS (
        DELETE FROM area_authorization USING moved WHERE area_id = moved.former
    ), links AS (
        INSERT INTO job_area ("jobId", full_path)
        SELECT "jobId", moved.path FROM job_area JOIN moved ON job_area.full_path = moved.former
        ON CONFLICT DO NOTHING
    ), hosts AS (
        DELETE FROM area_host USING moved WHERE area_host.full_path = moved.former
    )
    DELETE FROM area USING moved WHERE area.full_path = moved.former
""")

_TEMPORARY_PREFIX = "(moving) "
"""Prefix of temporary paths, for areas that swap their paths."""

_MOVES_PER_STATEMENT = 50
"""
Areas that one statement moves. For each, foreign keys read all of `job_area` and `area_authorization`, which have no
index by path and get none from us, and the statement must end within statement_timeout.
"""


@dataclass(frozen=True)
class NewArea:
    """A group or project with its GitLab id, such as gid://gitlab/Project/42."""

    full_path: str
    gitlab_id: str
    name: str
    type: AreaType


@dataclass(frozen=True)
class KnownArea:
    """An area as it was read."""

    full_path: str
    gitlab_id: str
    name: str | None
    type: str
    host: str | None
    """Of its GitLab, if it is known."""


@dataclass(frozen=True)
class AreaChanged:
    """An area that has moved to another path, or a path that has another id."""

    full_path: str
    gitlab_id: str
    former_path: str | None = None
    former_gitlab_id: str | None = None


class Areas:
    """The web app's tables `area`, `area_authorization` and `job_area`, and ours, `area_host`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, areas: Collection[NewArea], urls: Mapping[str, str] | None = None) -> set[str]:
        """
        Add the areas whose path and id are both new; returns their paths.

        *urls* are those of their GitLabs, by path: a path in another case is new on another host.
        """
        if not areas:
            return set()
        rows = json.dumps([asdict(area) for area in areas])
        return set(self._session.scalars(_ADD, {"rows": rows, "urls": json.dumps(urls or {})}))

    def correct(self, areas: Collection[NewArea]) -> None:
        """Overwrite id, name and type of areas that the caller has locked."""
        if areas:
            self._session.execute(_CORRECT, {"rows": json.dumps([asdict(area) for area in areas])})

    def link(self, paths: dict[JobId, str]) -> None:
        """Link jobs to their areas, by path, if the areas exist."""
        if paths:
            self._session.execute(_LINK, {"job_ids": list(paths), "paths": list(paths.values())})

    def link_found(self, paths: Collection[str]) -> None:
        """Link the jobs at the paths of these areas that were made for their ids while they were not there."""
        self._session.execute(_LINK_FOUND, {"paths": list(paths)})

    def ids_at(self, paths: Collection[str]) -> dict[str, str]:
        """The GitLab ids of the areas at these paths, by path."""
        rows = self._session.execute(_IDS_AT, {"paths": list(paths)}) if paths else ()
        return dict(iter(tuple(row) for row in rows))

    def below(self, path: str) -> set[str]:
        """The paths of all areas in the group at *path*."""
        return set(self._session.scalars(_BELOW, {"group": path}))

    def used_by_others(self, paths: Collection[str], account_id: str, url: str | None) -> set[str]:
        """Those of the paths for which another account is authorized, or at which it has jobs on this GitLab."""
        values = {"paths": sorted(paths), "account_id": account_id}
        used = self._session.execute(_USED_BY_OTHERS, values) if paths else ()
        return {row.full_path for row in used if not row.by_job or is_same(row.url, url)}

    def find(self, paths: Iterable[str], gitlab_ids: Iterable[str]) -> list[KnownArea]:
        """The areas with one of these paths or ids, without a lock."""
        return self._read(_FIND, paths, gitlab_ids)

    def lock(self, paths: Iterable[str], gitlab_ids: Iterable[str]) -> list[KnownArea]:
        """Lock the areas with one of these paths or ids, in the order of their paths."""
        return self._read(_LOCK, paths, gitlab_ids)

    def authorize(self, account_id: str, paths: Collection[str]) -> None:
        """Authorize the account for these areas."""
        self._session.execute(_AUTHORIZE, {"account_id": account_id, "paths": list(paths)})

    def authorized(self, account_id: str, paths: Collection[str]) -> set[str]:
        """Those of the paths for which the account is authorized."""
        values = {"account_id": account_id, "paths": sorted(paths)}
        return set(self._session.scalars(_AUTHORIZED, values)) if paths else set()

    def count_authorized(self, account_id: str, limit: int) -> int:
        """For how many areas the account is authorized, counted no further than *limit*."""
        values = {"account_id": account_id, "limit": limit}
        return int(self._session.scalars(_COUNT_AUTHORIZED, values).one())

    def set_host(self, host: str, paths: Collection[str]) -> None:
        """Set the GitLab host of these areas."""
        self._session.execute(_SET_HOST, {"host": host, "paths": list(paths)})

    def rename_host(self, former: str, host: str, paths: Collection[str]) -> None:
        """Set the host of those of these areas that have the former one: their GitLab has another name."""
        self._session.execute(_RENAME_HOST, {"former": former, "host": host, "paths": list(paths)})

    def move(self, paths: Mapping[str, str]) -> None:
        """
        Move locked areas from their former paths to new ones, with everything that refers to them.

        If one's new path is another's former path, all move to temporary paths first: two may swap their paths.
        """
        if paths.keys() & set(paths.values()):
            temporary = {former: _TEMPORARY_PREFIX + path for former, path in paths.items()}
            self._in_chunks(_MOVE, temporary)
            paths = dict(zip(temporary.values(), paths.values(), strict=True))
        self._in_chunks(_MOVE, paths)

    def merge(self, paths: Mapping[str, str]) -> None:
        """Delete areas, by path, after moving everything that refers to each of them to the area at its new path."""
        self._in_chunks(_MERGE, paths)

    def _in_chunks(self, statement: TextClause, paths: Mapping[str, str]) -> None:
        moves = iter(paths.items())
        while chunk := dict(islice(moves, _MOVES_PER_STATEMENT)):
            self._session.execute(statement, {"formers": list(chunk), "paths": list(chunk.values())})

    def _read(
        self, statement: TextClause, paths: Iterable[str], gitlab_ids: Iterable[str]
    ) -> list[KnownArea]:
        values = {"paths": sorted(set(paths)), "ids": sorted(set(gitlab_ids))}
        return [_known(row) for row in self._session.execute(statement, values)]


def _known(row: Row[Any]) -> KnownArea:
    return KnownArea(row.full_path, row.gitlab_id, row.name, row.type, known_host(row.host))
