"""
Protocol 1: one JSON object a frame, in both directions. docs/wire-protocol.md specifies it.

A frame is parsed once. Its own bytes are kept, so that they need not be written again for the workers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from persistence.db.json_bounds import TooDeepError, TooLargeError, check_json
from tasks.contract import frames as contract

MAX_DEPTH: Final = 64

ENDS: Final = frozenset(("job_completed", "job_failed", "token_refresh_request"))
DISCOVERIES: Final = frozenset(("jobs_discovered", "discovery"))

_MAX_VALUES: Final = 500_000
_MAX_ID: Final = 64
_MAX_TIMESTAMP: Final = 64

_JOB_FRAMES: Final[dict[str, type[BaseModel]]] = {
    "job_started": contract.JobStartedFrame,
    "job_progress": contract.JobProgressFrame,
    "job_completed": contract.JobCompletedFrame,
    "job_failed": contract.JobFailedFrame,
    "token_refresh_request": contract.TokenRefreshFrame,
    "jobs_discovered": contract.JobsDiscoveredFrame,
    "discovery": contract.DiscoveryFrame,
}

_CHECKS: Final[dict[str, Callable[[Any], object]]] = {
    kind: TypeAdapter(model).validate_python for kind, model in _JOB_FRAMES.items()
} | {
    "heartbeat": contract.HeartbeatData.model_validate,
    "job_request": contract.JobRequestData.model_validate,
}


class RefusedFrameError(Exception):
    """A frame that is not passed on. Its text quotes nothing of the frame but the names of fields."""

    def __init__(self, code: str, message: str, id_: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.id = id_


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a crawler."""

    kind: str
    job_id: str | None
    id: str | None
    """The crawler's name for it, which is said in the ack."""
    timestamp: str
    raw: bytes = field(repr=False)
    """The whole frame as JSON, as it is put into a message."""
    data: dict[str, Any] = field(repr=False)

    @property
    def is_about_job(self) -> bool:
        """True if it is a report about an attempt."""
        return self.kind in _JOB_FRAMES

    @property
    def is_end(self) -> bool:
        """True if it ends its attempt."""
        return self.kind in ENDS


def parse(raw: bytes) -> Frame:
    """
    Read a frame, and check that its fields are within the bounds of the contract.

    Raises RefusedFrameError. What is no field of the contract is ignored, as are frames of unknown types, whose *data*
    is not checked.
    """
    try:
        if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
            check_json(raw, values=_MAX_VALUES, depth=MAX_DEPTH)
        said = orjson.loads(raw)
    except TooDeepError:
        raise RefusedFrameError("malformed", f"nested more than {MAX_DEPTH} deep") from None
    except TooLargeError:
        raise RefusedFrameError("malformed", f"more than {_MAX_VALUES:,} values") from None
    except orjson.JSONDecodeError:
        raise RefusedFrameError("malformed", "not JSON in UTF-8") from None
    if not isinstance(said, dict):
        raise RefusedFrameError("malformed", "not a JSON object")
    return _frame(raw, said)


def _frame(raw: bytes, said: dict[str, Any]) -> Frame:
    kind, id_, job_id, data = said.get("type"), said.get("id"), said.get("jobId"), said.get("data")
    if id_ is not None and not (isinstance(id_, str) and 0 < len(id_) <= _MAX_ID):
        raise RefusedFrameError("invalid", f"id: must be a text of 1 to {_MAX_ID} characters")
    if not isinstance(kind, str):
        raise RefusedFrameError("invalid", "type: must be a text", id_)
    if not isinstance(data, dict | None):
        raise RefusedFrameError("invalid", "data: must be an object", id_)
    about = job_id if isinstance(job_id, str) else None
    timestamp = said.get("timestamp")
    if check := _CHECKS.get(kind):
        try:
            check(said if kind in _JOB_FRAMES else data or {})
        except ValidationError as error:
            raise RefusedFrameError("invalid", _describe(error), id_) from None
        if kind in _JOB_FRAMES and not isinstance(timestamp, str):
            raise RefusedFrameError("invalid", "timestamp: must be a text", id_)
    timestamp = timestamp if isinstance(timestamp, str) else ""
    return Frame(kind, about, id_, timestamp[:_MAX_TIMESTAMP], raw, data or {})


def _describe(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:100]
    return f"{place}: {first['msg']}"[:300]
