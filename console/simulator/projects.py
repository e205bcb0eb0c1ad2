"""Real groups and projects for the simulated web app and GitLab; data/README.md says where they come from."""

import gzip
import random
from collections import defaultdict
from dataclasses import dataclass
from importlib.resources import files

GROUP_COMMANDS = ("group", "groupMembers", "groupProjects", "groupIssues")
PROJECT_COMMANDS = ("project", "issues", "mergeRequests", "branches", "pipelines")
_GROUP_SHARE = 0.1
_FIRST_ID = 10_000_000
"""The first id of what a discovery finds; no target has such a high id."""


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


@dataclass(frozen=True)
class GroupTree:
    """A top-level group with everything in it, as items of jobs_discovered."""

    root: str
    found: tuple[dict[str, str], ...]

    def jobs(self) -> set[tuple[str, str]]:
        """Path and command of every job that its discovery spawns."""
        commands = {"crawl_group": GROUP_COMMANDS, "crawl_project": PROJECT_COMMANDS}
        return {(f["namespace_path"], command) for f in self.found for command in commands[f["job_type"]]}


def pick_group_tree(rng: random.Random, jobs: int) -> GroupTree:
    """Choose a real top-level group whose discovery spawns about this many jobs."""
    by_root: defaultdict[str, list[str]] = defaultdict(list)
    for path in _projects():
        by_root[path.partition("/")[0]].append(path)
    roots = sorted(root for root, paths in by_root.items() if root not in paths)
    rng.shuffle(roots)
    root = min(roots, key=lambda root: abs(len(_found(root, by_root[root]).jobs()) - jobs))
    return _found(root, by_root[root])


def _found(root: str, projects: list[str]) -> GroupTree:
    groups = {
        "/".join(path.split("/")[:depth]) for path in projects for depth in range(1, path.count("/") + 1)
    }
    kinds = [("crawl_group", path) for path in sorted(groups)] + [
        ("crawl_project", path) for path in projects
    ]
    return GroupTree(
        root,
        tuple(
            {
                "job_type": kind,
                "entity_id": str(_FIRST_ID + n),
                "namespace_path": path,
                "entity_name": path.rpartition("/")[2],
            }
            for n, (kind, path) in enumerate(kinds)
        ),
    )


def targets(rng: random.Random, count: int, without: str = "") -> list[Target]:
    """
    Choose *count* different targets, in random order, spread over groups as unevenly as the real projects.

    None is in the top-level group *without*.
    """
    paths = [path for path in _projects() if path.partition("/")[0] != without]
    groups = sorted({path.rpartition("/")[0] for path in paths})
    ids = {path: n for n, path in enumerate([*groups, *paths], start=101)}
    found: dict[tuple[str, str], Target] = {}
    while len(found) < count:
        is_group = rng.random() < _GROUP_SHARE
        path = rng.choice(groups if is_group else paths)
        command = rng.choice(GROUP_COMMANDS if is_group else PROJECT_COMMANDS)
        kind = "Group" if is_group else "Project"
        found[path, command] = Target(command, path, f"gid://gitlab/{kind}/{ids[path]}")
    return list(found.values())


def by_first_group(wanted: list[Target]) -> list[list[Target]]:
    """Group the targets by top-level group, the largest first."""
    groups: defaultdict[str, list[Target]] = defaultdict(list)
    for target in wanted:
        groups[target.full_path.partition("/")[0]].append(target)
    return sorted(groups.values(), key=len, reverse=True)


def _projects() -> list[str]:
    packed = files("console.simulator").joinpath("data", "gitlab-projects.txt.gz").read_bytes()
    return gzip.decompress(packed).decode().splitlines()
