"""What a discovery says, item by item, in one form: groups, projects, users, and groups to be discovered in turn."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter, ValidationError

from persistence.schema.commands import COMMANDS_OF_AREA, AreaType, Command
from persistence.schema.ids import global_id
from tasks.contract.frames import DiscoveredEntity, DiscoveredJob, Discovery, JobsDiscoveredFrame
from tasks.runtime.rejection import describe_error

_JOB = TypeAdapter(DiscoveredJob)
_ENTITY = TypeAdapter(DiscoveredEntity)

RejectItem = Callable[[object, str, str], None]
"""Is told of an item that cannot be used: the item, a constant reason, what is wrong with it."""


class Kind(StrEnum):
    """What was found."""

    GROUP = "group"
    PROJECT = "project"
    USER = "user"
    NAMESPACE = "namespace"
    """A group whose own groups and projects are still to be found."""


_KIND_OF_JOB_TYPE = {
    "crawl_group": Kind.GROUP,
    "crawl_project": Kind.PROJECT,
    "crawl_user": Kind.USER,
    "discover_namespaces": Kind.NAMESPACE,
}

_COMMANDS = {
    Kind.GROUP: COMMANDS_OF_AREA[AreaType.GROUP],
    Kind.PROJECT: COMMANDS_OF_AREA[AreaType.PROJECT],
    Kind.USER: (Command.USERS,),
    Kind.NAMESPACE: (Command.GROUP_PROJECT_DISCOVERY,),
}


@dataclass(frozen=True)
class FoundEntity:
    """One thing that exists."""

    item: Any
    """As it was said."""
    kind: Kind
    full_path: str
    gitlab_id: str
    """A global id; a bare number is not enough, since groups and projects are numbered apart."""
    name: str
    priority: int = 1

    @property
    def area_type(self) -> AreaType | None:
        """What its area is; a user has none."""
        match self.kind:
            case Kind.USER:
                return None
            case Kind.PROJECT:
                return AreaType.PROJECT
            case Kind.GROUP | Kind.NAMESPACE:
                return AreaType.GROUP

    @property
    def commands(self) -> tuple[Command, ...]:
        """What is to be crawled of it."""
        return _COMMANDS[self.kind]


def parse_discovery(frame: Discovery, refuse: RejectItem) -> list[FoundEntity]:
    """
    What the frame says, each thing once; what has a bad shape or contradicts the rest goes to *refuse*.

    A group may be found and be to be discovered as well. Of things that are at one path, or have one id,
    the first stands.
    """
    return list(_without_contradictions(_read(frame, refuse), refuse))


def _read(frame: Discovery, refuse: RejectItem) -> Iterator[FoundEntity]:
    if isinstance(frame, JobsDiscoveredFrame):
        items: Iterable[Any] = frame.data.discovered_jobs
        read: Callable[[Any], FoundEntity] = _from_job
    else:
        kind = Kind(frame.data.entity_type.removesuffix("s"))
        items, read = frame.data.entities, lambda item: _from_entity(item, kind)
    for item in items:
        try:
            found = read(item)
        except (ValidationError, RecursionError) as error:
            refuse(item, "invalid", describe_error(error))
            continue
        if _has_wrong_kind(found):
            refuse(item, "invalid", f"the id is not that of a {_noun(found.kind)}")
        else:
            yield found


def _from_job(item: object) -> FoundEntity:
    parsed = _JOB.validate_python(item)
    kind = _KIND_OF_JOB_TYPE[parsed.job_type]
    id_ = global_id(_noun(kind), parsed.entity_id)
    return FoundEntity(item, kind, parsed.namespace_path, id_, parsed.entity_name, parsed.priority)


def _from_entity(item: object, kind: Kind) -> FoundEntity:
    parsed = _ENTITY.validate_python(item)
    return FoundEntity(item, kind, parsed.path, global_id(_noun(kind), parsed.id), parsed.name)


def _noun(kind: Kind) -> str:
    return "group" if kind is Kind.NAMESPACE else kind.value


def _has_wrong_kind(found: FoundEntity) -> bool:
    """Whether a global id says that it is, for example, a group's, and the item calls it a project."""
    prefix = "gid://gitlab/"
    return found.gitlab_id.startswith(prefix) and not found.gitlab_id.startswith(
        f"{prefix}{_noun(found.kind).capitalize()}/"
    )


def _without_contradictions(found: Iterable[FoundEntity], refuse: RejectItem) -> Iterator[FoundEntity]:
    by_path: dict[str, tuple[AreaType | None, str]] = {}
    by_id: dict[str, str] = {}
    seen: set[tuple[Kind, str]] = set()
    for entity in found:
        identity = entity.area_type, entity.gitlab_id
        if (
            by_path.get(entity.full_path, identity) != identity
            or by_id.get(entity.gitlab_id, entity.full_path) != entity.full_path
        ):
            refuse(entity.item, "contradicts_another", "the path, or the id, is another's in the same frame")
            continue  # and leaves its path and its id to others
        by_path[entity.full_path], by_id[entity.gitlab_id] = identity, entity.full_path
        if (entity.kind, entity.full_path) not in seen:
            seen.add((entity.kind, entity.full_path))
            yield entity
