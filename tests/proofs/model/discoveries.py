"""What follows a discovery, in the model: a job for each command, made once."""

import json
from typing import Any

from proofs.model.machine.reached import Reached
from proofs.model.model import Model
from proofs.model.state import Attempt, Entry, Job

COMMANDS = ("group", "groupMembers", "groupProjects", "groupIssues")
"""Of a group; the machine's crawlers discover no projects."""


def is_discovery(frame: dict[str, Any]) -> bool:
    """Whether it tells what exists too."""
    return frame["type"] in ("discovery", "jobs_discovered")


def mark_of(frame: dict[str, Any]) -> str:
    """What tells a discovery from another, also of the same moment."""
    return json.dumps([frame["timestamp"], frame["data"]])


def discover(model: Model, sender: str, frame: dict[str, Any], seen: Any) -> None:
    """Apply a discovery once, if its attempt is live, or succeeded and is still its job's last."""
    attempt = model.attempts.get(frame["jobId"])
    if attempt is None or attempt.connection.id != sender or not _accepts_discovery(attempt):
        return
    if mark_of(frame) in attempt.discoveries:
        model.reach(Reached.DISCOVERY_TWICE)
        return
    model.reach(Reached.DISCOVERY_AFTER_END, not attempt.is_live)
    attempt.discoveries.add(mark_of(frame))
    for entity in frame["data"]["entities"]:
        for command in COMMANDS:
            _spawn(model, attempt.job, entity["path"], command, seen)


def _accepts_discovery(attempt: Attempt) -> bool:
    is_last = attempt.job.attempts[-1] is attempt
    return attempt.is_live or (attempt.status == "completed" and is_last)


def _spawn(model: Model, parent: Job, path: str, command: str, seen: Any) -> None:
    """Make a child that is not there; queue a failed one again, unless the web app failed it just now."""
    child = model.twin(command, path)
    if child is None:
        id_ = seen.child(path, command)
        child = model.jobs[id_] = Job(id_, parent.account, command, path, parent=parent.id)
        child.entry = Entry((model.now, model.now))
        model.reach(Reached.CHILDREN)
    elif child.status == "failed" and not (child.entry and child.entry.is_open):
        child.requeue_ended(model.now, restart=False)
        model.reach(Reached.CHILD_AGAIN)
