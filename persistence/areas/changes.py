"""
The table `area_change`: changes of areas that discoveries found, those made and those only proposed.

A change that would alter what other accounts use is proposed: one row a (gitlab_id, full_path, account). What one of
these accounts has found through one crawler credential and another account through another one is confirmed. Crawlers
without a credential are not told apart: what they propose, only an operator confirms.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from ulid import ULID

from persistence.areas.areas import AreaChanged, NewArea
from persistence.schema.commands import AreaType
from persistence.schema.gitlabs import host_of
from persistence.schema.ids import ConnectionId, JobId
from persistence.schema.paths import key_in, path_key
from persistence.schema.sql import sql
from persistence.schema.states import AreaChangeStatus
from persistence.schema.tables import AreaChange

_RECORD = sql("""
    INSERT INTO area_change (id, full_path, gitlab_id, former_path, former_gitlab_id, account_id, job_id)
    SELECT r.id, r.full_path, r.gitlab_id, r.former_path, r.former_gitlab_id, :account_id, :job_id
      FROM jsonb_populate_recordset(NULL::area_change, CAST(:rows AS jsonb)) r
""")

_PROPOSE = sql(
    """
    -- Not again what is proposed already, nor what an operator has rejected.
    INSERT INTO area_change (id, full_path, gitlab_id, former_path, former_gitlab_id, name, type,
                             account_id, job_id, graphql_url, status, crawler_credential)
    SELECT r.id, r.full_path, r.gitlab_id, r.former_path, r.former_gitlab_id, r.name, r.type,
           :account_id, :job_id, :graphql_url, $change_proposed,
           (SELECT crawler_credential FROM socket_connection WHERE id = :connection_id)
      FROM jsonb_populate_recordset(NULL::area_change, CAST(:rows AS jsonb)) r
     WHERE NOT EXISTS (SELECT FROM area_change known
                        WHERE known.gitlab_id = r.gitlab_id AND $known_key = $key
                          AND known.account_id = :account_id AND known.status IN $change_answered)
     ORDER BY r.gitlab_id COLLATE "C"
    ON CONFLICT DO NOTHING RETURNING id
    """,
    known_key=key_in("known.full_path"),
    key=key_in("r.full_path"),
)

_CONFIRMED = sql(
    """
    -- An account proposes a change once, so each other proposal of it is another account's.
    SELECT DISTINCT mine.id FROM area_change mine
      JOIN area_change theirs
        ON theirs.gitlab_id = mine.gitlab_id AND $their_key = $key AND theirs.status = $change_proposed
       AND theirs.crawler_credential <> mine.crawler_credential
     WHERE mine.gitlab_id = ANY (CAST(:ids AS text[])) AND mine.account_id = :account_id
       AND mine.status = $change_proposed
       AND NOT EXISTS (
           -- an area that would change, and that neither of the two accounts uses
           SELECT FROM unnest(ARRAY[mine.former_path, CASE WHEN mine.former_gitlab_id IS NOT NULL
                                                           THEN mine.full_path END]) AS changing(path)
            WHERE changing.path IS NOT NULL
              AND NOT EXISTS (SELECT FROM area_authorization used
                               WHERE used.area_id = changing.path
                                 AND used."accountId" IN (mine.account_id, theirs.account_id)))
     ORDER BY mine.id
    """,
    their_key=key_in("theirs.full_path"),
    key=key_in("mine.full_path"),
)

_WITHDRAW = sql("""
    DELETE FROM area_change WHERE gitlab_id = ANY (CAST(:ids AS text[])) AND account_id = :account_id
       AND status = $change_proposed
""")

_LOCK = sql("SELECT id FROM area_change WHERE id = :id AND status = $change_proposed FOR UPDATE")

_PROPOSERS = sql(
    """
    SELECT DISTINCT account_id FROM area_change
     WHERE $key = ANY (CAST(:keys AS text[])) AND status = $change_proposed
    """,
    key=key_in("full_path"),
)

_SETTLE = sql(
    """
    -- Whoever proposed what is true now, for whichever area.
    UPDATE area_change SET status = $change_applied, decided_at = now() FROM area
     WHERE area.full_path = ANY (CAST(:paths AS text[])) AND $proposed_key = $key
       AND area_change.gitlab_id = area.gitlab_id AND area_change.status = $change_proposed
    RETURNING area_change.account_id, area.full_path
    """,
    proposed_key=key_in("area_change.full_path"),
    key=key_in("area.full_path"),
)

_PROPOSED_ELSEWHERE = sql(
    """
    SELECT full_path FROM area_change
     WHERE gitlab_id = :gitlab_id AND $key <> :key AND status = $change_proposed LIMIT 1
    """,
    key=key_in("full_path"),
)

_FIND_PROPOSED = sql(
    """
    SELECT id FROM area_change
     WHERE gitlab_id = :gitlab_id AND $key = :key AND status = $change_proposed AND id = ANY (CAST(:ids AS text[]))
     ORDER BY id LIMIT 1
    """,
    key=key_in("full_path"),
)

_REJECT = sql("""
    UPDATE area_change SET status = $change_rejected, decided_at = now()
     WHERE id = :id AND status = $change_proposed
""")

_READ = select(
    AreaChange.id,
    AreaChange.full_path,
    AreaChange.gitlab_id,
    AreaChange.name,
    AreaChange.type,
    AreaChange.graphql_url,
    AreaChange.account_id,
    AreaChange.job_id,
    AreaChange.status,
)


@dataclass(frozen=True)
class ProposedChange:
    """A change of an area that a discovery found and that is not made."""

    change: AreaChanged
    area: NewArea
    """The area as it was found."""


@dataclass(frozen=True)
class Finder:
    """The discovery that found a change, and the connection over which it said so."""

    account_id: str
    job_id: JobId
    graphql_url: str | None
    connection_id: ConnectionId


@dataclass(frozen=True)
class KnownChange:
    """A change as it was read."""

    id: str
    area: NewArea
    graphql_url: str | None
    account_id: str
    job_id: JobId
    status: AreaChangeStatus

    @property
    def host(self) -> str:
        """The key of the GitLab at which it was found."""
        return host_of(self.graphql_url)


class AreaChanges:
    """The table `area_change`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def record(self, changes: Collection[AreaChanged], account_id: str, job_id: JobId) -> None:
        """Record changes that were made, and the account and job of the discovery that found them."""
        if changes:
            rows = json.dumps([asdict(change) | {"id": str(ULID())} for change in changes])
            self._session.execute(_RECORD, {"rows": rows, "account_id": account_id, "job_id": job_id})

    def propose(self, changes: Collection[ProposedChange], finder: Finder) -> list[AreaChanged]:
        """Propose changes; returns those that are new."""
        if not changes:
            return []
        by_id = {str(ULID()): proposed for proposed in changes}
        rows = [
            asdict(proposed.area) | asdict(proposed.change) | {"id": id_} for id_, proposed in by_id.items()
        ]
        values = {
            "rows": json.dumps(rows),
            **asdict(finder),
        }
        return [by_id[id_].change for id_ in self._session.scalars(_PROPOSE, values)]

    def confirmed(self, changes: Collection[ProposedChange], account_id: str) -> list[str]:
        """The ids of those of the account's proposals that an account and a crawler other than its own make, too."""
        values = {"ids": sorted({proposed.area.gitlab_id for proposed in changes}), "account_id": account_id}
        return list(self._session.scalars(_CONFIRMED, values)) if changes else []

    def withdraw(self, gitlab_ids: Collection[str], account_id: str) -> None:
        """Delete what the account has proposed for these ids: it has found them where they are known to be."""
        if gitlab_ids:
            self._session.execute(_WITHDRAW, {"ids": sorted(gitlab_ids), "account_id": account_id})

    def find(self, id_: str) -> KnownChange | None:
        """A change, without a lock; None if there is none, or if it is older than proposals are."""
        row: Any = self._session.execute(_READ.where(AreaChange.id == id_)).one_or_none()
        if row is None or row.type is None:
            return None
        area = NewArea(row.full_path, row.gitlab_id, row.name, AreaType(row.type))
        status = AreaChangeStatus(row.status)
        return KnownChange(row.id, area, row.graphql_url, row.account_id, row.job_id, status)

    def lock_proposed(self, id_: str) -> bool:
        """Lock a change; false if it is not proposed any more."""
        return self._session.scalars(_LOCK, {"id": id_}).one_or_none() is not None

    def proposers(self, paths: Iterable[str]) -> set[str]:
        """The accounts that propose changes to these paths, without a lock."""
        return set(self._session.scalars(_PROPOSERS, {"keys": sorted({path_key(path) for path in paths})}))

    def settle(self, paths: Iterable[str]) -> list[tuple[str, str]]:
        """Mark proposals as applied that are true of the areas at these paths; returns their accounts and paths."""
        rows = self._session.execute(_SETTLE, {"paths": sorted(paths)})
        return sorted((row.account_id, row.full_path) for row in rows)

    def proposed_elsewhere(self, gitlab_id: str, full_path: str) -> str | None:
        """Another path that is proposed for this id; None if there is none."""
        values = {"gitlab_id": gitlab_id, "key": path_key(full_path)}
        return self._session.scalars(_PROPOSED_ELSEWHERE, values).one_or_none()

    def find_proposed(self, gitlab_id: str, full_path: str, ids: Collection[str]) -> str | None:
        """The one of these changes that is proposed for this id and path; None if there is none."""
        values = {"gitlab_id": gitlab_id, "key": path_key(full_path), "ids": list(ids)}
        return self._session.scalars(_FIND_PROPOSED, values).one_or_none() if ids else None

    def reject(self, id_: str) -> None:
        """Reject a change, if it is still proposed."""
        self._session.execute(_REJECT, {"id": id_})
