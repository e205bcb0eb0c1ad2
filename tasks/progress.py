"""How far a job is: what its crawler tells, merged into `job.progress`; never backwards within an attempt."""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from persistence.redaction import redact_text
from persistence.schema.vocabulary import CrawlerJobId
from persistence.storable import redact
from tasks.frames import JobCompletedFrame, JobFailedFrame, JobFrame, JobProgressFrame

Progress = dict[str, Any]
"""
The JSON in `job.progress`: crawlerJobId (the attempt that it tells of), completion (0..1), counts
({name: n}), stage, entityType, message, currentPage, processingRate (items a second),
estimatedTimeRemaining (seconds), updatedAt (ISO 8601, the crawler's clock).
"""

MAX_COUNTS = 500

_FOUND = (
    "frames", "groups", "projects", "users", "namespaces", "jobs", "existing", "queuedAgain", "deferred"
)  # fmt: skip

_LATEST = ("stage", "entity_type", "message", "current_page", "processing_rate", "estimated_time_remaining")
"""Of these the last word stands."""


def advance(before: Progress | None, attempt: CrawlerJobId, frames: Iterable[JobFrame]) -> Progress | None:
    """The progress after *frames*, in their order; None where they say nothing of it."""
    progress: Progress | None = None
    for frame in frames:
        if isinstance(frame, JobProgressFrame | JobCompletedFrame | JobFailedFrame):
            progress = progress or _begun(before, attempt)
            _merge(progress, frame)
    return progress


def with_discovery(
    before: Progress | None, attempt: CrawlerJobId, found: Counter[str], summary: dict[str, int]
) -> Progress:
    """
    The progress after a discovery was applied.

    Under `discovery` are its sums: groups, projects, users, namespaces, jobs (made), existing,
    queuedAgain, deferred; frames; and the last summary that the crawler gave.
    """
    progress = _begun(before, attempt)
    told = progress.get("discovery") or {}
    sums = Counter({name: told.get(name, 0) for name in _FOUND}) + found + Counter(frames=1)
    progress["discovery"] = {name: sums[name] for name in _FOUND} | {
        "summary": told.get("summary", {}) | summary
    }
    return progress


@lru_cache(maxsize=4096)
def _name(said: str) -> str:
    """The name of a count without a secret: there are few, said again and again."""
    return redact_text(said)


def _begun(before: Progress | None, attempt: CrawlerJobId) -> Progress:
    """What this attempt had told before; a new attempt starts anew."""
    if isinstance(before, dict) and before.get("crawlerJobId") == attempt:
        return {**before, "counts": dict(before.get("counts") or {})}
    return {"crawlerJobId": attempt, "completion": 0.0, "counts": {}}


def _merge(progress: Progress, frame: JobProgressFrame | JobCompletedFrame | JobFailedFrame) -> None:
    progress["updatedAt"] = frame.timestamp.isoformat()
    match frame:
        case JobProgressFrame(data=data):
            _raise_counts(progress, {data.entity_type: data.processed} | (data.item_counts or {}))
            if data.total:
                progress["completion"] = max(progress["completion"], min(data.processed / data.total, 1.0))
            said = data.model_dump(by_alias=True, include=set(_LATEST), exclude_none=True)
            progress.update({name: redact(value) for name, value in said.items()})
        case JobCompletedFrame(data=data):
            _raise_counts(progress, data.final_counts)
            if data.success:
                progress["completion"] = 1.0
        case JobFailedFrame(data=data):
            _raise_counts(progress, data.partial_counts or {})


def _raise_counts(progress: Progress, counts: dict[str, int]) -> None:
    """Counts only rise; names beyond MAX_COUNTS are left out, or frame by frame the row would grow for ever."""
    kept = progress["counts"]
    for name, count in zip(map(_name, counts), counts.values(), strict=True):
        if name in kept or len(kept) < MAX_COUNTS:
            kept[name] = max(kept.get(name, 0), count)
