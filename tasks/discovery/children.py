"""The child jobs of what a discovery found: which exist, which are queued again, and which are new."""

from collections import Counter
from collections.abc import Collection, Mapping

from ulid import ULID

from persistence.areas.changes import ProposedChange
from persistence.jobs.deferred import ChildJob
from persistence.jobs.identity import JobKey
from persistence.jobs.jobs import KnownJob, NewJob
from persistence.schema.ids import JobId
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.discovery.items import FoundEntity
from tasks.discovery.lock import LockedDiscovery
from tasks.discovery.spawn import spawn
from tasks.jobs.enqueue import requeue_ended
from tasks.jobs.locking import LockedJobs


def spawn_children(
    uow: UnitOfWork,
    locked: LockedDiscovery,
    entities: Collection[FoundEntity],
    room: int,
    proposed: Mapping[str, ProposedChange],
) -> Counter[str]:
    """
    Create the children that do not exist, and queue those again that ended and are due; returns how many of each.

    New children beyond *room* are deferred, up to the account's limit of deferred jobs. At a path where the account
    only proposes another id, the jobs of others are about another entity: there it gets its own.
    """
    parent = locked.parent
    wanted = {
        JobKey(command.value, parent.graphql_url, entity.full_path): entity
        for entity in entities
        for command in entity.commands
    }
    own = {key for key in wanted if (at := proposed.get(key.full_path)) and at.change.former_gitlab_id}
    existing = uow.identities.twins(wanted.keys() - own)
    existing |= uow.identities.twins(own, account_id=parent.account_id)
    requeued = {child.id for child in existing.values()} & locked.renewable
    requeue_ended(uow, LockedJobs(locked.entries, {}, locked.jobs).only(requeued), restart=False)
    new = [
        _child(entity, key.command, parent, is_unique=key not in own)
        for key, entity in wanted.items()
        if key not in existing
    ]
    queued = new[: max(room, 0)]
    spawn(uow, queued)
    deferred = uow.deferred.add(parent.account_id, new[len(queued) :], settings().max_deferred)
    return Counter(
        jobs=len(queued),
        deferred=deferred.added,
        notCreated=deferred.beyond_limit,
        queuedAgain=len(requeued),
        existing=len(existing) - len(requeued),
    )


def _child(entity: FoundEntity, command: str, parent: KnownJob, *, is_unique: bool) -> ChildJob:
    job = NewJob(
        id=JobId(str(ULID())),
        command=command,
        full_path=entity.full_path,
        branch=None,
        account_id=parent.account_id,
        user_id=parent.user_id,
        provider=parent.provider,
        graphql_url=parent.graphql_url,
        spawned_from=parent.id,
    )
    return ChildJob(job, entity.priority, entity.gitlab_id, is_unique)
