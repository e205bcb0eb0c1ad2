"""Areas: the GitLab groups and projects that jobs are about."""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from persistence.schema.vocabulary import AreaType, JobId

_ADD = text("""
    INSERT INTO area (full_path, gitlab_id, name, type)
    SELECT r.full_path, r.gitlab_id, r.name, r.type
      FROM jsonb_populate_recordset(NULL::area, CAST(:rows AS jsonb)) r ORDER BY r.full_path COLLATE "C"
    ON CONFLICT DO NOTHING
""")

_LINK = text("""
    INSERT INTO job_area ("jobId", full_path)
    SELECT link.job_id, area.full_path
      FROM unnest(CAST(:job_ids AS text[]), CAST(:paths AS text[])) AS link(job_id, full_path)
      JOIN area ON area.full_path = link.full_path
     ORDER BY link.job_id COLLATE "C"
    ON CONFLICT DO NOTHING
""")


@dataclass(frozen=True)
class NewArea:
    """A group or project with its GitLab id, such as gid://gitlab/Project/42."""

    full_path: str
    gitlab_id: str
    name: str
    type: AreaType


class Areas:
    """The tables `area` and `job_area`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, areas: Collection[NewArea]) -> None:
        """Add areas that nobody knew by path or id; a known one stays as it is."""
        if areas:
            self._session.execute(_ADD, {"rows": json.dumps([asdict(area) for area in areas])})

    def link(self, paths: dict[JobId, str]) -> None:
        """Say which area a job is about, where we know the area."""
        if paths:
            self._session.execute(_LINK, {"job_ids": list(paths), "paths": list(paths.values())})
