"""
The scope of an attempt: what it may discover, by its order's command and group.

A discovery without a path is of everything that its account sees. An order for a group discovers in that group, which
it names by its id: the path at which the group itself is found counts from then on. A user has no path in GitLab's
tree, so users are in the scope of each command that may discover them.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from persistence.areas.scopes import OrderedGroup
from persistence.jobs.jobs import KnownJob
from persistence.schema.commands import Command
from persistence.schema.paths import path_key
from persistence.unit_of_work import UnitOfWork
from tasks.discovery.items import FoundEntity, Kind, RejectItem

OUT_OF_SCOPE = "out_of_scope"
"""The reason for which an entity outside of its attempt's scope is rejected."""

_TREE = frozenset({Kind.GROUP, Kind.PROJECT, Kind.NAMESPACE})

_KINDS = {
    Command.GROUP_PROJECT_DISCOVERY: _TREE | {Kind.USER},
    Command.GROUP_PROJECTS: _TREE,
    Command.GROUP_SUBGROUPS: _TREE,
    Command.USERS: frozenset({Kind.USER}),
}
"""What the attempts of each command may discover; those of any other command may discover nothing."""


@dataclass(frozen=True)
class Scope:
    """What an attempt may discover."""

    kinds: frozenset[Kind]
    group: OrderedGroup | None = None
    """The group in which groups and projects must be; None: anywhere."""

    def with_reported_paths(self, found: Iterable[FoundEntity]) -> "Scope":
        """The scope with the paths at which the group itself was found."""
        group = self.group
        if group is None:
            return self
        reported = {entity.full_path for entity in found if _is(group, entity)}
        return replace(self, group=OrderedGroup(group.gitlab_id, group.paths | reported))

    def admits(self, entity: FoundEntity) -> bool:
        """True if the attempt may discover this entity. Paths are compared without case, as GitLab does."""
        if entity.kind not in self.kinds:
            return False
        if self.group is None or entity.kind is Kind.USER:
            return True
        path = path_key(entity.full_path)
        return any(path == root or path.startswith(f"{root}/") for root in map(path_key, self.group.paths))

    def describe(self) -> str:
        """What is in scope, for people."""
        kinds = ", ".join(sorted(self.kinds))
        if self.group is None:
            return f"the attempt may discover: {kinds}"
        return f"the attempt may discover in {', '.join(sorted(self.group.paths)) or 'no group'}: {kinds}"


def scope_of(uow: UnitOfWork, job: KnownJob) -> Scope:
    """What the attempts of a job may discover, as it is read without a lock."""
    command = Command(job.command)
    kinds = _KINDS.get(command, frozenset())
    if not kinds & _TREE:
        return Scope(kinds)
    if command is Command.GROUP_PROJECT_DISCOVERY and job.full_path is None:
        return Scope(kinds)
    return Scope(kinds, uow.scopes.group(job.id))


def select_admitted(found: Collection[FoundEntity], scope: Scope, refuse: RejectItem) -> list[FoundEntity]:
    """
    The entities that are in scope; the others go to *refuse*.

    An attempt whose command discovers nothing has all of its items refused at once.
    """
    if not scope.kinds:
        if found:
            refuse({"items": len(found)}, OUT_OF_SCOPE, "the attempt's command discovers nothing")
        return []
    scope = scope.with_reported_paths(found)
    admitted = []
    for entity in found:
        if scope.admits(entity):
            admitted.append(entity)
        else:
            refuse(entity.item, OUT_OF_SCOPE, scope.describe())
    return admitted


def _is(group: OrderedGroup, entity: FoundEntity) -> bool:
    return entity.kind in (Kind.GROUP, Kind.NAMESPACE) and entity.gitlab_id == group.gitlab_id
