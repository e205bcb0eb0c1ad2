"""
Applying discoveries, each frame in a transaction of its own.

The fence admits a discovery of a live attempt on the sender's connection. It also admits one of a completed attempt
that is still the last of its job, since the completion may overtake it. The attempt lists the discoveries that were
applied, so that a frame that is repeated or delivered again changes nothing.

The plan is made without locks and then checked under them. If the areas have changed in between, the unit runs again.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from time import monotonic
from typing import Protocol

from celery.exceptions import Reject

from persistence.exceptions import Contended
from persistence.jobs.jobs import KnownJob
from persistence.schema.event_types import EventType
from persistence.schema.ids import ConnectionId, CrawlerJobId
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.frames import Discovery, JobsDiscoveredFrame
from tasks.discovery.area_bounds import count_refused, refuse_beyond_bounds
from tasks.discovery.area_changes import AreaChanges
from tasks.discovery.area_plan import AreaPlan, plan_areas
from tasks.discovery.children import spawn_children
from tasks.discovery.items import FoundEntity, RejectItem, parse_discovery, without_contradictions
from tasks.discovery.lock import (
    LockedDiscovery,
    ReceivedDiscovery,
    area_keys,
    find_used_by_others,
    lock_discovery,
)
from tasks.discovery.scope import scope_of, select_admitted
from tasks.jobs.progress import with_discovery
from tasks.runtime.batches import bisect_on_refusal, reject
from tasks.runtime.chunks import TIME_LIMIT_S
from tasks.runtime.unit import unit_of_work

CHUNK = 1000
"""Entities whose areas and jobs are written by one sequence of statements."""


class RefusedDiscovered(Protocol):
    """What becomes of the items of a message's discoveries that are refused."""

    def claim_discovered(
        self,
        uow: UnitOfWork,
        connection_id: ConnectionId,
        frame: Discovery,
        item: object,
        refusal: tuple[str, str],
    ) -> bool:
        """Refuse an item of a discovery, with a reason and its detail; False if the discovery does not have it."""
        ...

    def look_again(self, frame: Discovery) -> None:
        """Store what another delivery has refused of a discovery."""
        ...


def apply_discoveries(
    discoveries: Iterable[tuple[ConnectionId, Discovery]], refused: RefusedDiscovered
) -> None:
    """
    Apply the discoveries of one message, each in a transaction of its own.

    Raises Reject to continue in a later delivery if they take too long; that delivery skips the applied ones.
    Frames that are refused or stale here are counted by the unit that applies all other frames.
    """
    deadline = monotonic() + TIME_LIMIT_S
    for connection_id, frame in discoveries:
        with unit_of_work() as uow:
            if not apply_discovery(uow, connection_id, frame, refused):
                refused.look_again(frame)
                continue
            uow.commit()
        if monotonic() > deadline:
            raise Reject("there is more to do", requeue=True)


def apply_discovery(
    uow: UnitOfWork, connection_id: ConnectionId, frame: Discovery, refused: RefusedDiscovered
) -> bool:
    """Apply one discovery; False if it is stale or was applied before, and nothing has changed."""
    uow.tokens.name(fences=[frame.job_id], connections=[connection_id])
    parent = _find_parent(uow, frame)
    if parent is None:
        return False

    def refuse(item: object, reason: str, detail: str) -> None:
        if not refused.claim_discovered(uow, connection_id, frame, item, (reason, detail)):
            payload = {"type": frame.type, "jobId": frame.job_id, "item": item}
            reject(uow, payload, reason, detail, connection_id)

    found = parse_discovery(frame, parent.provider, refuse)
    scope = scope_of(uow, parent)
    admitted = select_admitted(found, scope, refuse)
    entities = list(without_contradictions(admitted, refuse))
    known = uow.areas.find(*area_keys(entities))
    used = find_used_by_others(uow, entities, known, parent)
    plan = plan_areas(entities, known, parent, used, refuse)
    locked = lock_discovery(uow, ReceivedDiscovery(connection_id, frame, parent), entities, plan)
    if locked is None:
        return False
    if scope_of(uow, locked.parent) != scope or find_used_by_others(uow, entities, known, parent) != used:
        raise Contended("the areas' users, or the discovery's group, were changed by another transaction")
    too_many = refuse_beyond_bounds(uow, plan, locked.parent.account_id, refuse)
    counts = _apply_plan(uow, plan, locked, refuse, too_many)
    counts["outOfScope"] = len(found) - len(admitted)
    counts["areasRefused"] = len(too_many)
    _record(uow, connection_id, frame, locked.parent, counts)
    count_refused(uow, too_many)
    return True


def _find_parent(uow: UnitOfWork, frame: Discovery) -> KnownJob | None:
    """The job of a discovery; None if there is none or it was applied: repeated frames must be cheap."""
    fence = CrawlerJobId(frame.job_id)
    attempt = uow.attempts.find([fence]).get(fence)
    applied = uow.attempts.applied_discoveries([fence]).get(fence, set())
    if attempt is None or (frame.timestamp, frame.digest) in applied:
        return None
    return uow.jobs.find([attempt.job_id]).get(attempt.job_id)


def _apply_plan(
    uow: UnitOfWork, plan: AreaPlan, locked: LockedDiscovery, refuse: RejectItem, without: Iterable[str]
) -> Counter[str]:
    """
    Move the areas that have moved, then write areas and jobs chunk by chunk; returns how many of what.

    Each entity that the database refuses goes to *refuse*; the others are applied, but for those at the paths
    *without*.
    """
    areas = AreaChanges(uow, plan, locked.parent, locked.connection_id)
    counts: Counter[str] = Counter()
    refused = set(without)
    room = min(locked.room, settings().max_frame_jobs)

    def move(moved: list[tuple[str, FoundEntity]]) -> None:
        uow.spellings.add(entity.full_path for _, entity in moved)
        areas.move(moved, locked.moving)

    def refuse_entity(entity: FoundEntity, why: str) -> None:
        if entity.area_type:
            areas.raise_if_contended([entity])
        refused.add(entity.full_path)
        refuse(entity.item, "refused_by_database", why)

    def apply_chunk(chunk: list[FoundEntity]) -> None:
        uow.spellings.add(entity.full_path for entity in chunk)
        areas.write(chunk)
        jobs = spawn_children(uow, locked, chunk, room - counts["jobs"], plan.proposed)
        areas.mark_done(chunk)  # not before: a refused chunk is rolled back
        counts.update(jobs + Counter(f"{entity.kind}s" for entity in chunk))

    bisect_on_refusal(
        uow,
        list(plan.moved.items()),
        move,
        lambda moved, why: refuse_entity(moved[1], why),
    )
    entities = iter([entity for entity in plan.usable if entity.full_path not in refused])
    while chunk := list(islice(entities, CHUNK)):
        bisect_on_refusal(uow, chunk, apply_chunk, refuse_entity)
    if counts["deferred"] and counts["jobs"] < locked.room:
        uow.publish("upkeep.feed_deferred")  # there is room; the frame alone has found too many
    return counts


def _record(
    uow: UnitOfWork, connection_id: ConnectionId, frame: Discovery, parent: KnownJob, counts: Counter[str]
) -> None:
    """List the frame on its attempt as applied, and write the progress of the discovery's job."""
    fence = CrawlerJobId(frame.job_id)
    uow.attempts.record_discovery(
        fence,
        frame.timestamp,
        frame.digest,
        advances=counts.total() > counts["outOfScope"] + counts["areasRefused"],
    )
    summary = {}
    if isinstance(frame, JobsDiscoveredFrame):
        summary = frame.data.discovery_summary.model_dump(by_alias=True, exclude_none=True)
    progress = with_discovery(parent.progress, fence, counts, summary)
    uow.jobs.advance([{"id": parent.id, "progress": progress}])
    uow.events.add(
        EventType.PROGRESS_UPDATED,
        job_id=parent.id,
        account_id=parent.account_id,
        connection_id=connection_id,
        completion=progress.completion,
        discovered=counts["jobs"] + counts["deferred"],
        crawler_job_id=fence,
        timestamp=frame.timestamp,
    )
