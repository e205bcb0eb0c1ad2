"""
Discoveries: what a crawler found becomes areas, authorizations and child jobs, one transaction a frame.

The fence is held throughout: the attempt is locked, of the connection that speaks, and live; or completed
and still its job's last, since its end may overtake what it found. What was applied is listed on the
attempt, so that a frame that is said again, or delivered again, changes nothing.

The plan is made without a lock, then checked under it: where the world has moved on, the unit is run again.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from time import monotonic

from celery.exceptions import Reject
from ulid import ULID

from persistence.areas.areas import NewArea
from persistence.exceptions import Contended, DataRefusedError
from persistence.jobs.deferred import ChildJob
from persistence.jobs.entries import Entry
from persistence.jobs.identity import JobKey
from persistence.jobs.jobs import KnownJob, NewJob
from persistence.schema.event_types import EventType
from persistence.schema.ids import AccountId, ConnectionId, CrawlerJobId, JobId
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.frames import Discovery, JobsDiscoveredFrame
from tasks.discovery.area_plan import AreaPlan, plan_areas
from tasks.discovery.items import FoundEntity, parse_discovery
from tasks.discovery.spawn import room_of, spawn
from tasks.jobs.enqueue import requeue_ended, should_requeue
from tasks.jobs.progress import with_discovery
from tasks.runtime.batches import bisect_on_refusal, reject
from tasks.runtime.chunks import TIME_LIMIT_S
from tasks.runtime.unit import unit_of_work

CHUNK = 1000
"""Things whose areas and jobs are made by one row of statements."""


def apply_discoveries(discoveries: Iterable[tuple[ConnectionId, Discovery]]) -> None:
    """
    Apply the discoveries of one message, each in a transaction of its own.

    Raises Reject to continue in a later delivery if they take too long; that delivery skips the applied ones.
    What is refused or stale here is counted by the unit that applies all other frames.
    """
    deadline = monotonic() + TIME_LIMIT_S
    for connection_id, frame in discoveries:
        with unit_of_work() as uow:
            if not apply_discovery(uow, connection_id, frame):
                continue
            uow.commit()
        if monotonic() > deadline:
            raise Reject("there is more to do", requeue=True)


def apply_discovery(uow: UnitOfWork, connection_id: ConnectionId, frame: Discovery) -> bool:
    """Apply one discovery; False: it is stale, or was applied before, and nothing has changed."""
    fence = CrawlerJobId(frame.job_id)
    attempt = uow.attempts.find([fence]).get(fence)
    parent = attempt and uow.jobs.find([attempt.job_id]).get(attempt.job_id)
    listed = uow.attempts.applied_discoveries([fence]).get(fence, set())
    if not parent or (frame.timestamp, frame.digest) in listed:
        return False  # said again until it was listed: that must be cheap
    refuse = partial(_refuse, uow, frame)
    entities = parse_discovery(frame, refuse)
    keys = AreaKeys(
        [entity.full_path for entity in entities],
        [entity.gitlab_id for entity in entities if entity.area_type],
    )
    plan = plan_areas(entities, uow.areas.find(keys.paths, keys.gitlab_ids), parent.host, refuse)
    locked = _lock(uow, ReceivedDiscovery(connection_id, frame, parent), plan, keys)
    if locked is None:
        return False
    _DiscoveryApplication(uow, frame, plan, locked).run()
    return True


def _refuse(uow: UnitOfWork, frame: Discovery, item: object, reason: str, detail: str) -> None:
    reject(uow, {"type": frame.type, "jobId": frame.job_id, "item": item}, reason, detail)


@dataclass(frozen=True)
class ReceivedDiscovery:
    """A discovery, who says it, and the job that it was found for, as it was read without a lock."""

    connection_id: ConnectionId
    frame: Discovery
    parent: KnownJob


@dataclass(frozen=True)
class AreaKeys:
    """The paths and ids that were said."""

    paths: list[str]
    gitlab_ids: list[str]


@dataclass(frozen=True)
class LockedDiscovery:
    """What a discovery may change, locked in the one order."""

    parent: KnownJob
    entries: dict[JobId, Entry]
    jobs: dict[JobId, KnownJob]
    moving: set[JobId]
    """Jobs at areas that have moved."""
    renewable: set[JobId]
    """Children that are to be queued again."""
    room: int | None
    """How many more jobs of the account may wait."""


def _lock(
    uow: UnitOfWork, received: ReceivedDiscovery, plan: AreaPlan, keys: AreaKeys
) -> LockedDiscovery | None:
    """
    Lock all that is to change; None where the words are not to be heard.

    Raises Contended where the areas are not any more what the plan was made for.
    """
    frame, parent = received.frame, received.parent
    moving = uow.children.at_paths(plan.moved.keys(), parent.graphql_url)
    again_after = settings().rediscovery_interval
    candidates = uow.children.renewable({*keys.paths, *plan.moved}, parent.graphql_url, again_after)
    uow.accounts.lock_key_share([parent.account_id])
    room = _room(uow, parent.account_id)
    entries = uow.entries.lock({parent.id, *moving, *candidates})
    listed = uow.attempts.lock_for_discovery(CrawlerJobId(frame.job_id), received.connection_id)
    if listed is None or (frame.timestamp, frame.digest) in listed:
        return None
    jobs = uow.jobs.lock({parent.id, *moving, *candidates})
    known = uow.areas.lock(keys.paths, keys.gitlab_ids)
    if plan.known != {(area.full_path, area.gitlab_id) for area in known}:
        raise Contended("areas were changed by another transaction")
    now = uow.now()
    renewable = {id_ for id_ in candidates & jobs.keys() if should_requeue(jobs[id_], entries.get(id_), now)}
    return LockedDiscovery(jobs[parent.id], entries, jobs, moving, renewable, room)


def _room(uow: UnitOfWork, account_id: AccountId) -> int | None:
    """How many more jobs of the account may wait; none, while others have been deferred before."""
    room = room_of(uow, account_id)
    if room is None or not uow.deferred.has_any([account_id]):
        return room
    uow.publish("upkeep.feed_deferred")
    return 0


@dataclass
class _DiscoveryApplication:
    """One discovery being applied: the areas that have moved, then chunk by chunk areas and jobs."""

    uow: UnitOfWork
    frame: Discovery
    plan: AreaPlan
    locked: LockedDiscovery
    counts: Counter[str] = field(default_factory=Counter)
    done: set[str] = field(default_factory=set)
    """Paths whose areas are as they are to be."""
    refused: set[str] = field(default_factory=set)
    moved_to: set[str] = field(default_factory=set)
    """Paths to which areas have moved."""

    def run(self) -> None:
        """Apply it."""
        bisect_on_refusal(
            self.uow,
            list(self.plan.moved.items()),
            self._move,
            lambda moved, why: self._refuse(moved[1], why),
        )
        entities = iter([entity for entity in self.plan.usable if entity.full_path not in self.refused])
        while chunk := list(islice(entities, CHUNK)):
            bisect_on_refusal(self.uow, chunk, self._apply_chunk, self._refuse)
        self._record_progress()

    def _refuse(self, entity: FoundEntity, why: str) -> None:
        if entity.area_type:
            self._raise_if_contended([entity])
        self.refused.add(entity.full_path)
        _refuse(self.uow, self.frame, entity.item, "refused_by_database", why)

    def _raise_if_contended(self, refused: Collection[FoundEntity | NewArea]) -> None:
        """Raise Contended where another transaction has added an area here: run again, the unit sees it."""
        found = self.uow.areas.find([r.full_path for r in refused], [r.gitlab_id for r in refused])
        seen = {path for path, _ in self.plan.known} | self.moved_to | self.done
        if any(area.full_path not in seen for area in found):
            raise Contended("areas were added by another transaction")

    def _move(self, moved: list[tuple[str, FoundEntity]]) -> None:
        """Let areas that are at other paths now, with their jobs, be there."""
        paths = {former: entity.full_path for former, entity in moved}
        self.uow.identities.follow(self.uow.jobs.move(self.locked.moving, paths))
        self.uow.areas.merge({former: path for former, path in paths.items() if former in self.plan.merging})
        self.uow.areas.move(
            {former: path for former, path in paths.items() if former not in self.plan.merging}
        )
        self.moved_to.update(paths.values())

    def _apply_chunk(self, entities: list[FoundEntity]) -> None:
        """Let the areas of these things be as they were found, and their jobs be there."""
        self._apply_areas({entity.full_path for entity in entities if entity.area_type} - self.done)
        counts = self._spawn_jobs(entities)
        self.done |= {entity.full_path for entity in entities}
        self.counts += counts + Counter(f"{entity.kind}s" for entity in entities)

    def _apply_areas(self, paths: set[str]) -> None:
        uow, plan, parent = self.uow, self.plan, self.locked.parent
        uow.areas.correct([plan.corrected[path] for path in sorted(paths & plan.corrected.keys())])
        new = paths & plan.new.keys()
        if missing := new - uow.areas.add([plan.new[path] for path in sorted(new)]):
            self._raise_if_contended([plan.new[path] for path in missing])
            raise DataRefusedError("something else is in the area's place", "23505")
        uow.areas.authorize(parent.account_id, sorted(paths))
        if parent.host:
            uow.areas.set_host(parent.host, sorted(paths))
        changes = [plan.changes[path] for path in sorted(paths & plan.changes.keys())]
        uow.areas.record_changes(changes, parent.account_id, parent.id)
        for change in changes:
            uow.events.add(
                EventType.AREA_CHANGED, job_id=parent.id, account_id=parent.account_id, **vars(change)
            )

    def _spawn_jobs(self, entities: list[FoundEntity]) -> Counter[str]:
        """Make the children that are not there, and queue again those that are to be; how many of each."""
        parent, locked = self.locked.parent, self.locked
        wanted = {
            JobKey(command.value, parent.graphql_url, entity.full_path): entity
            for entity in entities
            for command in entity.commands
        }
        existing = self.uow.identities.twins(wanted.keys())
        requeued = {child.id for child in existing.values() if child.id in locked.renewable}
        requeue_ended(self.uow, {id_: locked.jobs[id_] for id_ in requeued}, locked.entries, restart=False)
        new = [_child(entity, key.command, parent) for key, entity in wanted.items() if key not in existing]
        room = len(new) if locked.room is None else max(locked.room - self.counts["jobs"], 0)
        spawn(self.uow, new[:room])
        deferred = self.uow.deferred.add(new[room:])
        return Counter(
            jobs=len(new[:room]),
            deferred=len(deferred),
            queuedAgain=len(requeued),
            existing=len(existing) - len(requeued),
        )

    def _record_progress(self) -> None:
        """List the frame on its attempt, and tell the discovery's own progress."""
        parent, fence = self.locked.parent, CrawlerJobId(self.frame.job_id)
        self.uow.attempts.record_discovery(fence, self.frame.timestamp, self.frame.digest)
        summary = {}
        if isinstance(self.frame, JobsDiscoveredFrame):
            summary = self.frame.data.discovery_summary.model_dump(by_alias=True, exclude_none=True)
        progress = with_discovery(parent.progress, fence, self.counts, summary)
        self.uow.jobs.advance([{"id": parent.id, "progress": progress}])
        self.uow.events.add(
            EventType.PROGRESS_UPDATED,
            job_id=parent.id,
            account_id=parent.account_id,
            completion=progress.completion,
            discovered=self.counts["jobs"] + self.counts["deferred"],
        )


def _child(entity: FoundEntity, command: str, parent: KnownJob) -> ChildJob:
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
    return ChildJob(job, entity.priority, entity.gitlab_id)
