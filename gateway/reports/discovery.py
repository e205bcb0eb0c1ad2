"""Splits a discovery that is beyond the workers' bounds into several frames."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

PART_BYTES: Final = 768 * 1024
"""A worker takes an item of 1 MiB."""

PART_ITEMS: Final = 5_000
"""A worker takes 10,000 areas of one frame. It applies half of them in a few seconds."""

KINDS: Final = {"jobs_discovered": "discovered_jobs", "discovery": "entities"}
"""The frames that are discoveries, and what their lists are called."""

_SPELLINGS: Final = {
    "discovered_jobs": ("discoveredJobs", "discovered_jobs"),
    "entities": ("entities",),
}


def split(kind: str, raw: bytes, frame: Mapping[str, Any]) -> list[bytes]:
    """
    Return the frames to send instead of the discovery *raw*, which has been parsed as *frame*.

    The same discovery is always split in the same way: its parts are applied once, however often it is said. Each
    part has a timestamp of its own. What is no valid discovery is sent as it is, for a worker to reject it.
    """
    data = frame.get("data")
    if not isinstance(data, dict):
        return [raw]
    name = next((name for name in _SPELLINGS[KINDS[kind]] if isinstance(data.get(name), list)), None)
    if name is None or (len(raw) <= PART_BYTES and len(data[name]) <= PART_ITEMS):
        return [raw]
    begun = _time(frame.get("timestamp"))
    if begun is None:
        return [raw]
    rest = {key: value for key, value in frame.items() if key != "data"}
    fields = {key: value for key, value in data.items() if key not in _SPELLINGS[KINDS[kind]]}
    return [
        orjson.dumps(
            rest
            | {"timestamp": (begun + timedelta(microseconds=n)).isoformat() if n else frame["timestamp"]}
            | {"data": fields | {name: [orjson.Fragment(item) for item in part]}}
        )
        for n, part in enumerate(_parts(data[name]))
    ]


def _parts(items: list[Any]) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for item in items:
        encoded = orjson.dumps(item)
        if part and (len(part) == PART_ITEMS or size + len(encoded) > PART_BYTES):
            yield part
            part, size = [], 0
        part.append(encoded)
        size += len(encoded) + 1
    yield part


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
