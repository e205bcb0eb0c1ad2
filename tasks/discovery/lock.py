"""The locks of a discovery, taken in the global order: account, account queue, entries, attempt, jobs, areas."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from persistence.areas.areas import KnownArea, NewArea
from persistence.exceptions import Contended
from persistence.jobs.entries import Entry
from persistence.jobs.jobs import KnownJob
from persistence.schema.ids import AccountId, ConnectionId, CrawlerJobId, JobId
from persistence.schema.paths import path_key
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.frames import Discovery
from tasks.discovery.area_plan import AreaPlan, changing_areas
from tasks.discovery.items import FoundEntity
from tasks.discovery.spawn import room_of
from tasks.jobs.enqueue import should_requeue


@dataclass(frozen=True)
class ReceivedDiscovery:
    """A discovery, its sender, and the job that it belongs to, as it was read without a lock."""

    connection_id: ConnectionId
    frame: Discovery
    parent: KnownJob


@dataclass(frozen=True)
class LockedDiscovery:
    """Everything that a discovery may change, locked."""

    connection_id: ConnectionId
    parent: KnownJob
    entries: dict[JobId, Entry]
    jobs: dict[JobId, KnownJob]
    moving: set[JobId]
    """Jobs at areas that have moved."""
    renewable: set[JobId]
    """Children that are to be queued again."""
    room: int
    """How many more jobs of the account may wait in the queue."""


def lock_discovery(
    uow: UnitOfWork, received: ReceivedDiscovery, entities: Collection[FoundEntity], plan: AreaPlan
) -> LockedDiscovery | None:
    """
    Lock everything that the discovery may change; None if it is stale or was applied before.

    Raises Contended if the areas are no longer those that the plan was made for.
    """
    frame, parent = received.frame, received.parent
    paths, gitlab_ids = area_keys(entities)
    moving = uow.children.at_paths(plan.moved.keys(), parent.graphql_url)
    again_after = settings().rediscovery_interval
    candidates = uow.children.renewable({*paths, *plan.moved}, parent.graphql_url, again_after)
    uow.accounts.lock_key_share([parent.account_id])
    room = _room(uow, parent.account_id)
    entries = uow.entries.lock({parent.id, *moving, *candidates})
    applied = uow.attempts.lock_for_discovery(CrawlerJobId(frame.job_id), received.connection_id)
    if applied is None or (frame.timestamp, frame.digest) in applied:
        return None
    jobs = uow.jobs.lock({parent.id, *moving, *candidates})
    known = uow.areas.lock(paths, gitlab_ids)
    if plan.known != {(area.full_path, area.gitlab_id) for area in known}:
        raise Contended("areas were changed by another transaction")
    now = uow.now()
    proposed = set(map(path_key, plan.proposed))
    renewable = {
        id_
        for id_ in candidates & jobs.keys()
        if should_requeue(jobs[id_], entries.get(id_), now)
        and (path_key(jobs[id_].full_path or "") not in proposed or jobs[id_].account_id == parent.account_id)
    }
    return LockedDiscovery(received.connection_id, jobs[parent.id], entries, jobs, moving, renewable, room)


def lock_moves(
    uow: UnitOfWork, area: NewArea, moves: Mapping[str, str], url: str | None
) -> tuple[set[JobId], list[KnownArea]]:
    """
    Lock the jobs at areas that move, by their former paths, then *area* and all areas at these paths; returns both.

    The accounts are locked already. Raises Contended if jobs were created there meanwhile.
    """
    job_ids = uow.children.at_paths(moves, url)
    uow.entries.lock(job_ids)
    uow.jobs.lock(job_ids)
    locked = uow.areas.lock([area.full_path, *moves, *moves.values()], [area.gitlab_id])
    if uow.children.at_paths(moves, url) != job_ids:
        raise Contended("jobs were created at an area that moves")
    return job_ids, locked


def area_keys(entities: Collection[FoundEntity]) -> tuple[list[str], list[str]]:
    """The paths and the GitLab ids by which the areas of these entities are found."""
    return [entity.full_path for entity in entities], [e.gitlab_id for e in entities if e.area_type]


def find_used_by_others(
    uow: UnitOfWork, entities: Collection[FoundEntity], known: Collection[KnownArea], parent: KnownJob
) -> set[str]:
    """The paths of those *known* areas that the discovery would change although other accounts use them."""
    changing = changing_areas(entities, known, parent.provider)
    return uow.areas.used_by_others(changing, parent.account_id, parent.graphql_url)


def _room(uow: UnitOfWork, account_id: AccountId) -> int:
    """How many more jobs of the account may wait in the queue; 0 while jobs that were found earlier are deferred."""
    room = room_of(uow, account_id)
    if not uow.deferred.has_any([account_id]):
        return room
    uow.publish("upkeep.feed_deferred")
    return 0
