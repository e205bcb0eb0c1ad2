"""What the machine's crawlers say: mostly what they should, sometimes what nobody should."""

from typing import Any, NamedTuple

from hypothesis import strategies as st

from proofs.model.frames import NONSENSE
from proofs.model.model import Model
from proofs.model.state import Attempt, Job

NOW = "2026-05-04T03:02:01Z"

PICK = st.integers(0, 127)
"""Which of those that there are."""

_JOB_FRAMES = {
    "job_started": {},
    "job_progress": {"stage": "fetching", "entityType": "issue"},
    "job_completed": {},
    "job_failed": {"error": "it broke", "isRecoverable": True},
    "token_refresh_request": {},
    "discovery": {"entityType": "group"},
}

_KINDS = (
    *("job_started", "job_progress", "job_completed", "job_failed") * 3,
    *("unsuccessful", "broken", "token_refresh_request", "token_refresh_request", "discovery", "discovery"),
    *("heartbeat", "listing", "forgetful listing", "job_request", NONSENSE),
)

_MANNERS = (*["honest"] * 17, "stranger", "dead attempt", "never given")


class FrameSpec(NamedTuple):
    """A frame to be said, before it is known what there is to speak of."""

    kind: str
    who: int
    how_much: int
    manner: str


FRAME_SPECS = st.builds(
    FrameSpec, st.sampled_from(_KINDS), PICK, st.integers(0, 7), st.sampled_from(_MANNERS)
)


def frame(model: Model, spec: FrameSpec, focus: Job | None) -> dict[str, Any]:
    """The frame that this wish is, as things stand, with who says it; often about the job in focus."""
    if spec.kind in ("heartbeat", "listing", "forgetful listing", "job_request", NONSENSE):
        return _of_connection(model, spec)
    sender, fence = _sender(model, spec, focus)
    kind, data = _content(spec)
    said = {"type": kind, "timestamp": NOW, "jobId": fence, "data": data}
    if kind == "discovery":
        said["timestamp"] = f"2026-05-04T03:02:0{spec.how_much % 4}Z"
    return {"connection_id": sender, "frame": said}


def _content(spec: FrameSpec) -> tuple[str, dict[str, Any]]:
    match spec.kind:
        case "unsuccessful":
            return "job_completed", {"success": False}
        case "broken":
            return "job_failed", {"error": "no such group", "errorType": "NotFound", "isRecoverable": False}
        case "job_progress":
            return spec.kind, _JOB_FRAMES[spec.kind] | {"processed": spec.how_much}
        case "discovery":
            path = f"group-{spec.how_much % 2}"
            entity = {"id": str(7 + spec.how_much % 2), "name": path, "path": path}
            return spec.kind, _JOB_FRAMES[spec.kind] | {"entities": [entity]}
        case _:
            return spec.kind, _JOB_FRAMES[spec.kind]


def _sender(model: Model, spec: FrameSpec, focus: Job | None) -> tuple[str, str]:
    """Who speaks of which attempt."""
    if spec.manner == "honest" and spec.who % 2 and focus and focus.attempts:
        last = focus.attempts[-1]
        if last.fence in model.attempts:
            return last.connection.id, last.fence
    live, dead = model.live, [a for a in model.attempts.values() if not a.is_live]
    if spec.manner == "never given" or not (live or dead):
        return _any_connection(model, spec.who), f"never-given-{spec.who % 3}"
    of = dead if (spec.manner == "dead attempt" and dead) or not live else live
    attempt: Attempt = of[spec.who % len(of)]
    if spec.manner == "stranger":
        return _any_connection(model, spec.who), attempt.fence
    return attempt.connection.id, attempt.fence


def _any_connection(model: Model, who: int) -> str:
    ids = list(model.connections)
    return ids[who % len(ids)]


def _of_connection(model: Model, spec: FrameSpec) -> dict[str, Any]:
    honest = [c.id for c in model.active] if spec.manner == "honest" else []
    ids = honest or list(model.connections)
    connection = model.connections[ids[spec.who % len(ids)]]
    data: dict[str, Any] = {}
    match spec.kind:
        case "listing":
            data = {"activeJobs": [attempt.fence for attempt in connection.live]}
        case "forgetful listing":
            data = {"activeJobs": [attempt.fence for attempt in connection.live][1:]}
        case "heartbeat":
            data = {"activeJobs": spec.how_much % 3}
        case "job_request":
            data = {"capacity": 1 + spec.how_much % 4}
    kind = "heartbeat" if spec.kind.endswith("listing") else spec.kind
    return {"connection_id": connection.id, "frame": {"type": kind, "timestamp": NOW, "data": data}}
