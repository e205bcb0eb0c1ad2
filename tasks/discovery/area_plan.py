"""
The plan of a discovery: how the known areas have to change. A pure comparison, without a database.

An id that is found at another path has moved there, with everything that refers to its area. A path that is found
with another id keeps everything that refers to it. The shared table has one area per path and one per GitLab id,
whatever the host, so an area of another host cannot be an area of this one too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from persistence.areas.areas import AreaChanged, KnownArea, NewArea
from persistence.jobs.jobs import KnownJob
from persistence.schema.ids import area_id
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
    """These three by the path where the entity was found."""

    def id_of(self, area: KnownArea) -> str:
        """The area's id, as the provider's areas have it; the web app may have written a number alone."""
        return area_id(self.provider, area.type, area.gitlab_id)


def plan_areas(
    found: Iterable[FoundEntity], known: Iterable[KnownArea], parent: KnownJob, refuse: RejectItem
) -> AreaPlan:
    """Compare what the discovery of *parent* has found with the known areas that have its paths or ids."""
    host = parent.host
    known = list(known)
    plan = AreaPlan(parent.provider, known={(area.full_path, area.gitlab_id) for area in known})
    by_path = {area.full_path: area for area in known}
    by_id = {plan.id_of(area): area for area in known}
    for entity in found:
        others = [a for a in (by_path.get(entity.full_path), by_id.get(entity.gitlab_id)) if a]
        foreign = [a for a in others if host and a.host and a.host != host]
        if entity.area_type and foreign:
            detail = f"{foreign[0].full_path} ({foreign[0].gitlab_id}) is an area of {foreign[0].host}"
            refuse(entity.item, _OF_ANOTHER_HOST, detail)
        else:
            plan.usable.append(entity)
    path_by_id = {entity.gitlab_id: entity.full_path for entity in plan.usable if entity.area_type}
    vacated = {path for path, area in by_path.items() if path_by_id.get(plan.id_of(area), path) != path}
    for path, entity in {t.full_path: t for t in plan.usable if t.area_type}.items():
        _plan_area(plan, entity, None if path in vacated else by_path.get(path), by_id.get(entity.gitlab_id))
    return plan


def _plan_area(
    plan: AreaPlan, entity: FoundEntity, occupant: KnownArea | None, current: KnownArea | None
) -> None:
    """Plan the changes for one entity: *occupant* is the area with its path, *current* the one with its id."""
    assert entity.area_type is not None
    area = NewArea(entity.full_path, entity.gitlab_id, entity.name, entity.area_type)
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


def _differs(area: NewArea, known: KnownArea | None) -> bool:
    return known is None or (area.gitlab_id, area.name, area.type) != (
        known.gitlab_id,
        known.name,
        known.type,
    )
