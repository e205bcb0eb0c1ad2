"""The entities of a discovery frame in one form: groups, projects, users, and namespaces to be discovered in turn."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any

from pydantic import TypeAdapter, ValidationError

from persistence.schema.commands import COMMAND_OF_JOB_TYPE, COMMANDS_OF_AREA, JIRA, AreaType, Command
from persistence.schema.ids import global_id
from persistence.schema.paths import path_key
from tasks.contract.frames import DiscoveredEntity, DiscoveredJob, Discovery, JobsDiscoveredFrame
from tasks.discovery import gitlab_names
from tasks.runtime.rejection import describe_error

_JOB = TypeAdapter(DiscoveredJob)
_ENTITY = TypeAdapter(DiscoveredEntity)

RejectItem = Callable[[object, str, str], None]
"""Receives each item that cannot be used: the item, a constant reason, and what is wrong with it."""


class Kind(StrEnum):
    """The kind of an entity."""

    GROUP = "group"
    PROJECT = "project"
    USER = "user"
    NAMESPACE = "namespace"
    """A group whose own groups and projects still have to be discovered."""


_KIND_OF_COMMAND = {
    Command.GROUP: Kind.GROUP,
    Command.PROJECT: Kind.PROJECT,
    Command.USERS: Kind.USER,
    Command.GROUP_PROJECT_DISCOVERY: Kind.NAMESPACE,
}

_COMMANDS = {
    Kind.GROUP: COMMANDS_OF_AREA[AreaType.GROUP],
    Kind.PROJECT: COMMANDS_OF_AREA[AreaType.PROJECT],
    Kind.USER: (Command.USERS,),
    Kind.NAMESPACE: (Command.GROUP_PROJECT_DISCOVERY,),
}


@dataclass(frozen=True)
class FoundEntity:
    """A group, project, user or namespace that a crawler found."""

    item: Any
    """The item as it was sent."""
    kind: Kind
    full_path: str
    gitlab_id: str
    """A global id. A number alone is ambiguous, since groups and projects are numbered separately."""
    name: str
    priority: int = 1

    @property
    def area_type(self) -> AreaType | None:
        """The type of its area; None for a user, who has no area."""
        match self.kind:
            case Kind.USER:
                return None
            case Kind.PROJECT:
                return AreaType.PROJECT
            case Kind.GROUP | Kind.NAMESPACE:
                return AreaType.GROUP

    @property
    def commands(self) -> tuple[Command, ...]:
        """What has to be crawled of it: one job each."""
        return _COMMANDS[self.kind]


def parse_discovery(frame: Discovery, provider: str | None, refuse: RejectItem) -> list[FoundEntity]:
    """The entities of a frame that are valid; the other items go to *refuse*."""
    return list(_read(frame, provider, refuse))


def _read(frame: Discovery, provider: str | None, refuse: RejectItem) -> Iterator[FoundEntity]:
    if isinstance(frame, JobsDiscoveredFrame):
        read: Callable[[Any], FoundEntity] = partial(_from_job, provider)
    else:
        kind = Kind(frame.data.entity_type.removesuffix("s"))
        read = partial(_from_entity, provider, kind)
    for item in frame.found:
        try:
            found = read(item)
        except (ValidationError, RecursionError) as error:
            refuse(item, "invalid", describe_error(error))
            continue
        if fault := _fault(provider, found):
            refuse(item, "invalid", fault)
        else:
            yield found


def _from_job(provider: str | None, item: object) -> FoundEntity:
    parsed = _JOB.validate_python(item)
    kind = _KIND_OF_COMMAND[COMMAND_OF_JOB_TYPE[parsed.job_type]]
    id_ = _id(provider, kind, parsed.entity_id)
    return FoundEntity(item, kind, parsed.namespace_path, id_, parsed.entity_name, parsed.priority)


def _from_entity(provider: str | None, kind: Kind, item: object) -> FoundEntity:
    parsed = _ENTITY.validate_python(item)
    return FoundEntity(item, kind, parsed.path, _id(provider, kind, parsed.id), parsed.name)


def _id(provider: str | None, kind: Kind, id_: str) -> str:
    return id_ if provider in JIRA else global_id(_noun(kind), id_)


def _noun(kind: Kind) -> str:
    return "group" if kind is Kind.NAMESPACE else kind.value


def _fault(provider: str | None, found: FoundEntity) -> str | None:
    """What is wrong with the path or id of an entity; None if nothing is."""
    if provider in JIRA:
        return "an id of Jira is no global id" if found.gitlab_id.startswith("gid:") else None
    if not gitlab_names.is_path(found.full_path):
        return gitlab_names.NOT_A_PATH
    noun = _noun(found.kind)
    return None if gitlab_names.is_id(noun, found.gitlab_id) else gitlab_names.NOT_AN_ID.format(noun=noun)


def without_contradictions(found: Iterable[FoundEntity], refuse: RejectItem) -> Iterator[FoundEntity]:
    """
    The entities, each once; those that contradict another one go to *refuse*.

    One group may be both a group and a namespace. Of several entities with one path or one id, the first is kept, and
    of several spellings of one path.
    """
    by_path: dict[str, tuple[tuple[AreaType | None, str], str]] = {}
    by_id: dict[str, str] = {}
    seen: set[tuple[Kind, str]] = set()
    for entity in found:
        identity = entity.area_type, entity.gitlab_id
        path = path_key(entity.full_path)
        if by_path.get(path, (identity, ""))[0] != identity or by_id.get(entity.gitlab_id, path) != path:
            refuse(
                entity.item,
                "contradicts_another",
                "the path or the id belongs to another entity in the same frame",
            )
            continue  # without reserving its path and its id
        by_id[entity.gitlab_id] = path
        _, spelling = by_path.setdefault(path, (identity, entity.full_path))
        if (entity.kind, path) not in seen:
            seen.add((entity.kind, path))
            yield replace(entity, full_path=spelling)
