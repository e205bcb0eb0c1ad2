"""The frames that the original crawler is sent, and what it must not be sent."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

TOKEN_LIFE: Final = timedelta(hours=2)
"""It goes on only if it is told when its new token ends, whatever that time is."""

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
_GLOBAL_ID = re.compile(r"gid://gitlab/\w+/(\d+)")


def job_response(order: dict[str, Any]) -> bytes:
    """
    Write the answer to a request for work, with one order.

    Its entityId is the bare number. It has no resumeState: the crawler would skip the first page of every list, and
    find less than there is.
    """
    job = {field: order[field] for field in ("id", "entityType", "entityId", "gitlabUrl", "accessToken")}
    if found := _GLOBAL_ID.fullmatch(order["entityId"] or ""):
        job["entityId"] = found[1]
    return encode("job_response", {"jobs": [job]})


def token_refresh_response(job_id: str, token: str | None) -> bytes:
    """Write the answer to a token_refresh_request. Without a token, the crawler fails the job at once."""
    expires_at = (datetime.now(UTC) + TOKEN_LIFE).isoformat() if token else ""
    data = {"accessToken": token or "", "expiresAt": expires_at, "refreshSuccessful": bool(token)}
    return encode("token_refresh_response", data, jobId=job_id)


def encode(kind: str, data: dict[str, Any], **more: str) -> bytes:
    """
    Write a frame as the original crawler can read it: ASCII, and without braces in strings.

    It counts braces in strings too, and decodes each packet by itself.
    """
    text = json.dumps({"type": kind, "timestamp": now(), **more, "data": data}, separators=(",", ":"))
    return _STRING.sub(
        lambda string: string[0].replace("{", "\\u007b").replace("}", "\\u007d"), text
    ).encode()


def leads_astray(entity_id: str | None) -> bool:
    """True for an id that must not stand in its URLs and file names, where it goes as it is."""
    return ".." in (entity_id or "")


def now() -> str:
    """The time, as frames have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
