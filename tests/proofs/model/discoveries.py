"""What a discovery creates: a job for each command of each group, once (section "Discoveries")."""

import json
from typing import Any

from proofs.model.model import Model
from proofs.model.reached import Reached
from proofs.model.state import Attempt, Entry, Job

_DISCOVERING = ("GROUP_PROJECT_DISCOVERY", "groupProjects", "groupSubgroups")
"""Commands whose attempts may discover groups."""

GROUP_COMMANDS = ("group", "groupMembers", "groupProjects", "groupIssues")
"""The child jobs of a group; the machine's crawlers discover no projects."""


def is_discovery(frame: dict[str, Any]) -> bool:
    """Return True for both forms of a discovery frame."""
    return frame["type"] in ("discovery", "jobs_discovered")


def identity_of(frame: dict[str, Any]) -> str:
    """
    Return what a repetition of the frame has in common with it.

    Discoveries: "sent again, they change nothing".
    """
    return json.dumps([frame["timestamp"], frame["data"]])


def discover(model: Model, sender: str, frame: dict[str, Any], seen: Any) -> None:
    """Apply a discovery, once, behind its fence."""
    attempt = model.attempts.get(frame["jobId"])
    if attempt is None or attempt.connection.id != sender or not _accepts_discovery(attempt):
        return
    if identity_of(frame) in attempt.discoveries:
        model.reach(Reached.DISCOVERY_TWICE)
        return
    model.reach(Reached.DISCOVERY_AFTER_END, not attempt.is_live)
    attempt.discoveries.add(identity_of(frame))
    for entity in frame["data"]["entities"]:
        if not is_in_scope(attempt.job, entity["path"]):
            model.reach(Reached.OUT_OF_SCOPE)
            model.rejected["out_of_scope"] += 1
            continue
        attempt.progressed_at, attempt.has_found = model.now, True
        for command in GROUP_COMMANDS:
            _spawn(model, attempt.job, entity["path"], command, seen)


def is_in_scope(job: Job, path: str) -> bool:
    """
    Return True if an attempt of the job may discover the group at this path.

    Discoveries: "An attempt discovers what its order is about, and nothing else". The machine's paths do not differ
    in their case alone, and its groups do not move.
    """
    if job.command not in _DISCOVERING:
        return False
    if job.path is None:
        return job.command == "GROUP_PROJECT_DISCOVERY"
    return path == job.path or path.startswith(f"{job.path}/")


def _accepts_discovery(attempt: Attempt) -> bool:
    """
    Return True if discoveries of the attempt still apply.

    Discoveries: "It applies while its attempt is live, and also if the attempt is completed and still its
    job's last, since the end may overtake it."
    """
    is_last = attempt.job.attempts[-1] is attempt
    return attempt.is_live or (attempt.status == "completed" and is_last)


def _spawn(model: Model, parent: Job, path: str, command: str, seen: Any) -> None:
    """
    Create a child, or queue it again.

    Discoveries: "An existing child is left as it is. A child that has `failed` is queued again with its counts
    reset". Not in the contract: a child that the web app has failed while its entry is still open is left to
    upkeep.reconcile.
    """
    child = model.twin(command, path)
    if child is None:
        id_ = seen.child(path, command)
        child = model.jobs[id_] = Job(id_, parent.account, command, path, parent=parent.id)
        child.entry = Entry((model.now, model.now))
        model.reach(Reached.CHILDREN)
    elif child.status == "failed" and not (child.entry and child.entry.is_open):
        child.requeue_ended(model.now, restart=False)
        model.reach(Reached.CHILD_AGAIN)
