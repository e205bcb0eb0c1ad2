"""Reads changes of areas, for operators."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Integer, bindparam, select

from persistence.db.snapshot import snapshot
from persistence.schema.states import AreaChangeStatus
from persistence.schema.tables import AreaChange

# In the order of the fields of AreaChangeRow.
_ROWS = select(
    AreaChange.id,
    AreaChange.status,
    AreaChange.gitlab_id,
    AreaChange.full_path,
    AreaChange.former_path,
    AreaChange.former_gitlab_id,
    AreaChange.account_id,
    AreaChange.job_id,
    AreaChange.crawler_credential,
    AreaChange.changed_at,
    AreaChange.decided_at,
).order_by(AreaChange.id.desc())

_ALL = _ROWS.limit(bindparam("limit", type_=Integer))

_PROPOSED = _ALL.where(AreaChange.status == AreaChangeStatus.PROPOSED.value)

_TIMEOUT = timedelta(seconds=10)


@dataclass(frozen=True)
class AreaChangeRow:
    """A change of an area: made, proposed or rejected."""

    id: str
    status: str
    gitlab_id: str
    full_path: str
    former_path: str | None
    former_gitlab_id: str | None
    account_id: str
    job_id: str
    crawler_credential: str | None
    changed_at: datetime
    decided_at: datetime | None


def read_area_changes(*, limit: int, all_: bool) -> list[AreaChangeRow]:
    """The newest changes that are proposed, or of any status."""
    with snapshot(_TIMEOUT) as connection:
        rows = connection.execute(_ALL if all_ else _PROPOSED, {"limit": limit})
        return [AreaChangeRow(*row) for row in rows]
