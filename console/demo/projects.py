"""Real groups and projects for the simulated web app; see data/README.md for where they are from."""

import gzip
import random
from collections import defaultdict
from dataclasses import dataclass
from importlib.resources import files

GROUP_COMMANDS = ("group", "groupMembers", "groupProjects", "groupIssues")
PROJECT_COMMANDS = ("project", "issues", "mergeRequests", "branches", "pipelines")
_GROUP_SHARE = 0.1


@dataclass(frozen=True)
class Target:
    """What a job crawls: a command on a group or project."""

    command: str
    full_path: str
    gitlab_id: str

    @property
    def kind(self) -> str:
        """`group` or `project`."""
        return "group" if self.command in GROUP_COMMANDS else "project"


def targets(chance: random.Random, count: int) -> list[Target]:
    """That many different targets, in no order; as unevenly spread over groups as the real projects are."""
    paths = _projects()
    groups = sorted({path.rpartition("/")[0] for path in paths})
    ids = {path: n for n, path in enumerate([*groups, *paths], start=101)}
    found: dict[tuple[str, str], Target] = {}
    while len(found) < count:
        is_group = chance.random() < _GROUP_SHARE
        path = chance.choice(groups if is_group else paths)
        command = chance.choice(GROUP_COMMANDS if is_group else PROJECT_COMMANDS)
        kind = "Group" if is_group else "Project"
        found[path, command] = Target(command, path, f"gid://gitlab/{kind}/{ids[path]}")
    return list(found.values())


def by_first_group(wanted: list[Target]) -> list[list[Target]]:
    """The targets by their top-level group, the largest first."""
    groups: defaultdict[str, list[Target]] = defaultdict(list)
    for target in wanted:
        groups[target.full_path.partition("/")[0]].append(target)
    return sorted(groups.values(), key=len, reverse=True)


def _projects() -> list[str]:
    packed = files("console.demo").joinpath("data", "gitlab-projects.txt.gz").read_bytes()
    return gzip.decompress(packed).decode().splitlines()
