"""Frames of the machine's crawlers: mostly correct ones, sometimes wrong ones."""

from typing import Any, NamedTuple

from hypothesis import strategies as st

from proofs.model.discoveries import is_in_scope
from proofs.model.frames import MAX_ITEM_BYTES, NONSENSE
from proofs.model.model import Model
from proofs.model.state import Attempt, Job

NOW = "2026-05-04T03:02:01Z"

PICK = st.integers(0, 127)
"""Which of the existing objects."""

_JOB_FRAMES = {
    "job_started": {},
    "job_progress": {"stage": "fetching", "entityType": "issue"},
    "job_completed": {},
    "job_failed": {"error": "it broke", "isRecoverable": True},
    "token_refresh_request": {},
}

_KINDS = (
    *("job_started", "job_progress", "job_completed", "job_failed") * 3,
    *(
        "unsuccessful",
        "permanent failure",
        "token_refresh_request",
        "token_refresh_request",
        "discovery",
        "discovery",
    ),
    *("heartbeat", "list", "incomplete list", "job_request", NONSENSE, "too large"),
)

_ABOUT = (*["own attempt"] * 17, "other connection", "closed attempt", "never issued")


class FrameSpec(NamedTuple):
    """A frame to be sent, before it is known which attempts and connections exist."""

    kind: str
    pick: int
    amount: int
    about: str


FRAME_SPECS = st.builds(FrameSpec, st.sampled_from(_KINDS), PICK, st.integers(0, 7), st.sampled_from(_ABOUT))


def frame(model: Model, spec: FrameSpec, focus: Job | None) -> dict[str, Any]:
    """Return the frame and its sender, in the present state; often about the job in focus."""
    if spec.kind in ("heartbeat", "list", "incomplete list", "job_request", NONSENSE, "too large"):
        return _of_connection(model, spec)
    sender, fence = _sender(model, spec, focus)
    kind, data = _content(spec)
    if kind == "discovery" and spec.pick % 4 and (discovering := _discovering(model)):
        attempt = discovering[spec.pick % len(discovering)]
        sender, fence, data = attempt.connection.id, attempt.fence, discovery_of(str(attempt.job.path))
    built = {"type": kind, "timestamp": NOW, "jobId": fence, "data": data}
    if kind == "discovery":
        built["timestamp"] = f"2026-05-04T03:02:0{spec.amount % 4}Z"
    return {"connection_id": sender, "frame": built}


def _content(spec: FrameSpec) -> tuple[str, dict[str, Any]]:
    match spec.kind:
        case "unsuccessful":
            return "job_completed", {"success": False}
        case "permanent failure":
            return "job_failed", {"error": "no such group", "errorType": "NotFound", "isRecoverable": False}
        case "job_progress":
            return spec.kind, _JOB_FRAMES[spec.kind] | {"processed": spec.amount}
        case "discovery":
            return spec.kind, discovery_of(f"group-{spec.amount % 2}")
        case _:
            return spec.kind, _JOB_FRAMES[spec.kind]


def discovery_of(path: str) -> dict[str, Any]:
    """Return the data of a discovery of one group."""
    return {"entityType": "group", "entities": [{"id": str(7 + int(path[-1])), "name": path, "path": path}]}


def _discovering(model: Model) -> list[Attempt]:
    """Return the live attempts that may discover the group at their own path."""
    return [
        a for a in model.live if str(a.job.path).startswith("group-") and is_in_scope(a.job, str(a.job.path))
    ]


def _sender(model: Model, spec: FrameSpec, focus: Job | None) -> tuple[str, str]:
    """Return the sender and the attempt."""
    if spec.about == "own attempt" and spec.pick % 2 and focus and focus.attempts:
        last = focus.attempts[-1]
        if last.fence in model.attempts:
            return last.connection.id, last.fence
    live, closed = model.live, [a for a in model.attempts.values() if not a.is_live]
    if spec.about == "never issued" or not (live or closed):
        return _any_connection(model, spec.pick), f"never-issued-{spec.pick % 3}"
    of = closed if (spec.about == "closed attempt" and closed) or not live else live
    attempt: Attempt = of[spec.pick % len(of)]
    if spec.about == "other connection":
        return _any_connection(model, spec.pick), attempt.fence
    return attempt.connection.id, attempt.fence


def _any_connection(model: Model, pick: int) -> str:
    ids = list(model.connections)
    return ids[pick % len(ids)]


def _of_connection(model: Model, spec: FrameSpec) -> dict[str, Any]:
    own = [c.id for c in model.active] if spec.about == "own attempt" else []
    ids = own or list(model.connections)
    connection = model.connections[ids[spec.pick % len(ids)]]
    data: dict[str, Any] = {}
    match spec.kind:
        case "list":
            data = {"activeJobs": [attempt.fence for attempt in connection.live]}
        case "incomplete list":
            data = {"activeJobs": [attempt.fence for attempt in connection.live][1:]}
        case "heartbeat":
            data = {"activeJobs": spec.amount % 3}
        case "too large":
            data = {"activeJobs": spec.amount % 3, "padding": "x" * MAX_ITEM_BYTES}
        case "job_request":
            data = {"capacity": 1 + spec.amount % 4}
    kind = spec.kind if spec.kind in ("job_request", NONSENSE) else "heartbeat"
    timestamp = f"2026-05-04T03:02:0{spec.pick % 4}Z"
    return {"connection_id": connection.id, "frame": {"type": kind, "timestamp": timestamp, "data": data}}
