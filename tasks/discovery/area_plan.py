"""
The plan of a discovery: how the known areas have to change. A pure comparison, without a database.

An id that is found at another path has moved there, with everything that refers to its area. A path that is found
with another id keeps everything that refers to it. The shared table has one area per path and one per GitLab id,
whatever the host, so an area of another host cannot be an area of this one too.

What would change an area that other accounts use is proposed only: one crawler does not decide for them.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from persistence.areas.areas import AreaChanged, KnownArea, NewArea
from persistence.areas.changes import ProposedChange
from persistence.jobs.jobs import KnownJob
from persistence.schema.ids import area_id
from persistence.schema.paths import path_key
from tasks.discovery.items import FoundEntity, RejectItem

_OF_ANOTHER_HOST = "area_of_another_host"


@dataclass
class AreaPlan:
    """The changes of areas, by the entities that were found there."""

    provider: str | None
    usable: list[FoundEntity] = field(default_factory=list)
    known: set[tuple[str, str]] = field(default_factory=set)
    """Path and id of every area that was compared. If they differ once locked, the plan is void."""
    moved: dict[str, FoundEntity] = field(default_factory=dict)
    """By their former paths."""
    merging: set[str] = field(default_factory=set)
    """The former paths of moved areas whose new path is another area that stays there: the two are merged."""
    new: dict[str, NewArea] = field(default_factory=dict)
    corrected: dict[str, NewArea] = field(default_factory=dict)
    changes: dict[str, AreaChanged] = field(default_factory=dict)
    proposed: dict[str, ProposedChange] = field(default_factory=dict)
    """These four by the path where the entity was found."""

    def id_of(self, area: KnownArea) -> str:
        """The area's id, as the provider's areas have it; the web app may have written a number alone."""
        return area_id(self.provider, area.type, area.gitlab_id)


def changing_areas(
    found: Iterable[FoundEntity], known: Iterable[KnownArea], provider: str | None
) -> set[str]:
    """The paths of the known areas that would move or get another id."""
    found = [entity for entity in found if entity.area_type]
    paths = {entity.gitlab_id: entity.full_path for entity in found}
    ids = {path_key(entity.full_path): entity.gitlab_id for entity in found}
    changing = set()
    for area in known:
        id_ = area_id(provider, area.type, area.gitlab_id)
        if paths.get(id_, area.full_path) != area.full_path or ids.get(path_key(area.full_path), id_) != id_:
            changing.add(area.full_path)
    return changing


def plan_areas(
    found: Iterable[FoundEntity],
    known: Iterable[KnownArea],
    parent: KnownJob,
    used_by_others: Collection[str],
    refuse: RejectItem,
) -> AreaPlan:
    """
    Compare what the discovery of *parent* has found with the known areas that have its paths or ids.

    A change of an area that is *used_by_others* is only proposed.
    """
    host = parent.host
    known = list(known)
    plan = AreaPlan(parent.provider, known={(area.full_path, area.gitlab_id) for area in known})
    by_path = {area.full_path: area for area in known}
    by_id = {plan.id_of(area): area for area in known}
    by_key: dict[str, list[KnownArea]] = defaultdict(list)
    for area in known:
        if not (host and area.host and area.host != host):
            by_key[path_key(area.full_path)].append(area)
    for entity in found:
        current = by_id.get(entity.gitlab_id)
        respelled = _spelled_otherwise(entity, by_key, plan)
        if respelled and (respelled is not current or current.full_path in used_by_others):
            entity = replace(entity, full_path=respelled.full_path)  # noqa: PLW2901 - not a move
        others = [a for a in (by_path.get(entity.full_path), current) if a]
        foreign = [a for a in others if host and a.host and a.host != host]
        if entity.area_type and foreign:
            detail = f"{foreign[0].full_path} ({foreign[0].gitlab_id}) is an area of {foreign[0].host}"
            refuse(entity.item, _OF_ANOTHER_HOST, detail)
        else:
            plan.usable.append(entity)
    areas = {entity.full_path: entity for entity in plan.usable if entity.area_type}
    path_by_id = {entity.gitlab_id: entity.full_path for entity in areas.values()}
    proposed = _find_proposed(plan, areas, by_path, by_id, used_by_others)
    vacated = {
        path
        for path, area in by_path.items()
        if path_by_id.get(plan.id_of(area), path) != path and plan.id_of(area) not in proposed
    }
    for path, entity in areas.items():
        occupant, current = by_path.get(path), by_id.get(entity.gitlab_id)
        if entity.gitlab_id in proposed:
            _propose(plan, entity, occupant, current)
        else:
            _plan_area(plan, entity, None if path in vacated else occupant, current)
    return plan


def _spelled_otherwise(
    entity: FoundEntity, by_key: Mapping[str, list[KnownArea]], plan: AreaPlan
) -> KnownArea | None:
    """The area at the entity's path, if it is known in another case alone; rather the one with its id."""
    same = by_key.get(path_key(entity.full_path), [])
    if any(area.full_path == entity.full_path for area in same):
        return None
    return next((area for area in same if plan.id_of(area) == entity.gitlab_id), same[0] if same else None)


def _find_proposed(
    plan: AreaPlan,
    areas: Mapping[str, FoundEntity],
    by_path: Mapping[str, KnownArea],
    by_id: Mapping[str, KnownArea],
    used_by_others: Collection[str],
) -> set[str]:
    """
    The ids of the entities whose change is only proposed: it would change an area that others use.

    An area whose move is only proposed stays, so what was found at its path changes it.
    """
    path_by_id = {entity.gitlab_id: entity.full_path for entity in areas.values()}
    proposed: set[str] = set()
    to_check = list(areas.values())
    while to_check:
        entity = to_check.pop()
        current, occupant = by_id.get(entity.gitlab_id), by_path.get(entity.full_path)
        changing = [current] if current and current.full_path != entity.full_path else []
        if occupant and (id_ := plan.id_of(occupant)) != entity.gitlab_id:
            moves_away = path_by_id.get(id_, entity.full_path) != entity.full_path and id_ not in proposed
            changing += [] if moves_away else [occupant]
        if entity.gitlab_id in proposed or not any(a.full_path in used_by_others for a in changing):
            continue
        proposed.add(entity.gitlab_id)
        if current and (follower := areas.get(current.full_path)):
            to_check.append(follower)
    return proposed


def _propose(
    plan: AreaPlan, entity: FoundEntity, occupant: KnownArea | None, current: KnownArea | None
) -> None:
    """Note the change for one entity as proposed."""
    moved_from = current.full_path if current and current.full_path != entity.full_path else None
    former_id = occupant.gitlab_id if occupant and plan.id_of(occupant) != entity.gitlab_id else None
    change = AreaChanged(entity.full_path, entity.gitlab_id, moved_from, former_id)
    plan.proposed[entity.full_path] = ProposedChange(change, _new_area(entity))


def _plan_area(
    plan: AreaPlan, entity: FoundEntity, occupant: KnownArea | None, current: KnownArea | None
) -> None:
    """Plan the changes for one entity: *occupant* is the area with its path, *current* the one with its id."""
    area = _new_area(entity)
    moved_from = current.full_path if current and current.full_path != entity.full_path else None
    if moved_from:
        plan.moved[moved_from] = entity
        if occupant:
            plan.merging.add(moved_from)
    if occupant is None and current is None:
        plan.new[area.full_path] = area
    elif _differs(area, occupant if moved_from is None or occupant else current):
        plan.corrected[area.full_path] = area
    replaced = occupant if occupant and plan.id_of(occupant) != entity.gitlab_id else None
    if moved_from or replaced:
        former_id = replaced.gitlab_id if replaced else None
        plan.changes[entity.full_path] = AreaChanged(
            entity.full_path, entity.gitlab_id, moved_from, former_id
        )


def _new_area(entity: FoundEntity) -> NewArea:
    assert entity.area_type is not None
    return NewArea(entity.full_path, entity.gitlab_id, entity.name, entity.area_type)


def _differs(area: NewArea, known: KnownArea | None) -> bool:
    return known is None or (area.gitlab_id, area.name, area.type) != (
        known.gitlab_id,
        known.name,
        known.type,
    )
