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


class Wish(NamedTuple):
    """A frame to be said, before it is known what there is to speak of."""

    kind: str
    who: int
    how_much: int
    manner: str


WISHES = st.builds(Wish, st.sampled_from(_KINDS), PICK, st.integers(0, 7), st.sampled_from(_MANNERS))


def frame(model: Model, wish: Wish, focus: Job | None) -> dict[str, Any]:
    """The frame that this wish is, as things stand, with who says it; often about the job in focus."""
    if wish.kind in ("heartbeat", "listing", "forgetful listing", "job_request", NONSENSE):
        return _of_connection(model, wish)
    speaker, fence = _speaker(model, wish, focus)
    kind, data = _word(wish)
    said = {"type": kind, "timestamp": NOW, "jobId": fence, "data": data}
    if kind == "discovery":
        said["timestamp"] = f"2026-05-04T03:02:0{wish.how_much % 4}Z"
    return {"connection_id": speaker, "frame": said}


def _word(wish: Wish) -> tuple[str, dict[str, Any]]:
    match wish.kind:
        case "unsuccessful":
            return "job_completed", {"success": False}
        case "broken":
            return "job_failed", {"error": "no such group", "errorType": "NotFound", "isRecoverable": False}
        case "job_progress":
            return wish.kind, _JOB_FRAMES[wish.kind] | {"processed": wish.how_much}
        case "discovery":
            path = f"group-{wish.how_much % 2}"
            entity = {"id": str(7 + wish.how_much % 2), "name": path, "path": path}
            return wish.kind, _JOB_FRAMES[wish.kind] | {"entities": [entity]}
        case _:
            return wish.kind, _JOB_FRAMES[wish.kind]


def _speaker(model: Model, wish: Wish, focus: Job | None) -> tuple[str, str]:
    """Who speaks of which attempt."""
    if wish.manner == "honest" and wish.who % 2 and focus and focus.attempts:
        last = focus.attempts[-1]
        if last.fence in model.attempts:
            return last.connection.id, last.fence
    live, dead = model.live, [a for a in model.attempts.values() if not a.is_live]
    if wish.manner == "never given" or not (live or dead):
        return _any_connection(model, wish.who), f"never-given-{wish.who % 3}"
    of = dead if (wish.manner == "dead attempt" and dead) or not live else live
    attempt: Attempt = of[wish.who % len(of)]
    if wish.manner == "stranger":
        return _any_connection(model, wish.who), attempt.fence
    return attempt.connection.id, attempt.fence


def _any_connection(model: Model, who: int) -> str:
    ids = list(model.connections)
    return ids[who % len(ids)]


def _of_connection(model: Model, wish: Wish) -> dict[str, Any]:
    honest = [c.id for c in model.active] if wish.manner == "honest" else []
    ids = honest or list(model.connections)
    connection = model.connections[ids[wish.who % len(ids)]]
    data: dict[str, Any] = {}
    match wish.kind:
        case "listing":
            data = {"activeJobs": [attempt.fence for attempt in connection.live]}
        case "forgetful listing":
            data = {"activeJobs": [attempt.fence for attempt in connection.live][1:]}
        case "heartbeat":
            data = {"activeJobs": wish.how_much % 3}
        case "job_request":
            data = {"capacity": 1 + wish.how_much % 4}
    kind = "heartbeat" if wish.kind.endswith("listing") else wish.kind
    return {"connection_id": connection.id, "frame": {"type": kind, "timestamp": NOW, "data": data}}
