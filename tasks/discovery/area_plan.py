"""
What a discovery means for the areas that are known: pure comparison, so that it can be read by itself.

An id that is found at another path has moved there, with all that hangs on its area. A path that is found
with another id keeps what hangs on it. The shared table has one area a path and one a GitLab id, whatever
the host: what is another host's cannot be an area here too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from persistence.areas.areas import AreaChanged, KnownArea, NewArea
from persistence.schema.ids import global_id
from tasks.discovery.items import Found, Refuse

_OF_ANOTHER_HOST = "area_of_another_host"


@dataclass
class AreaPlan:
    """What is to be done to the areas, by the things that were found there."""

    usable: list[Found] = field(default_factory=list)
    known: set[tuple[str, str]] = field(default_factory=set)
    """Path and id of every area that was looked at: if they differ under their lock, the plan is void."""
    moved: dict[str, Found] = field(default_factory=dict)
    """By the former path."""
    onto: set[str] = field(default_factory=set)
    """Of those, the former paths whose new path is an area that nobody has moved away: they become one."""
    new: dict[str, NewArea] = field(default_factory=dict)
    corrected: dict[str, NewArea] = field(default_factory=dict)
    changes: dict[str, AreaChanged] = field(default_factory=dict)
    """These three by the path where the thing was found."""


def plan_areas(found: Iterable[Found], known: Iterable[KnownArea], host: str, refuse: Refuse) -> AreaPlan:
    """Compare what was found on *host* with the areas that have its paths or ids."""
    known = list(known)
    plan = AreaPlan(known={(area.full_path, area.gitlab_id) for area in known})
    by_path = {area.full_path: area for area in known}
    by_id = {_id(area): area for area in known}
    for thing in found:
        others = [a for a in (by_path.get(thing.full_path), by_id.get(thing.gitlab_id)) if a]
        foreign = [a for a in others if host and a.host and a.host != host]
        if thing.area_type and foreign:
            detail = f"{foreign[0].full_path} ({foreign[0].gitlab_id}) is an area of {foreign[0].host}"
            refuse(thing.item, _OF_ANOTHER_HOST, detail)
        else:
            plan.usable.append(thing)
    claimed = {thing.gitlab_id: thing.full_path for thing in plan.usable if thing.area_type}
    leaving = {path for path, area in by_path.items() if claimed.get(_id(area), path) != path}
    for path, thing in {t.full_path: t for t in plan.usable if t.area_type}.items():
        _place(plan, thing, None if path in leaving else by_path.get(path), by_id.get(thing.gitlab_id))
    return plan


def _place(plan: AreaPlan, thing: Found, occupant: KnownArea | None, itself: KnownArea | None) -> None:
    """Note what is to be done for one thing: *occupant* has its path, *itself* has its id."""
    assert thing.area_type is not None
    area = NewArea(thing.full_path, thing.gitlab_id, thing.name, thing.area_type)
    moved_from = itself.full_path if itself and itself.full_path != thing.full_path else None
    if moved_from:
        plan.moved[moved_from] = thing
        if occupant:
            plan.onto.add(moved_from)
    if occupant is None and itself is None:
        plan.new[area.full_path] = area
    elif _differs(area, occupant if moved_from is None or occupant else itself):
        plan.corrected[area.full_path] = area
    replaced = occupant if occupant and _id(occupant) != thing.gitlab_id else None
    if moved_from or replaced:
        former_id = replaced.gitlab_id if replaced else None
        plan.changes[thing.full_path] = AreaChanged(thing.full_path, thing.gitlab_id, moved_from, former_id)


def _differs(area: NewArea, known: KnownArea | None) -> bool:
    return known is None or (area.gitlab_id, area.name, area.type) != (
        known.gitlab_id,
        known.name,
        known.type,
    )


def _id(area: KnownArea) -> str:
    """Its id as a global one, whoever wrote it."""
    return global_id(area.type, area.gitlab_id)
