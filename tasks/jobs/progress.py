"""
The progress of a job: what its crawler reports, merged into `job.progress`. Within an attempt it never goes back.

Frames may arrive late, twice, or in any order. Counts, totals and completion only rise, so that order does not matter
to them. Of values that replace each other, those of the newest frame by the crawler's clock are kept. A timestamp
later than the database's time is taken as that time; otherwise one wrong timestamp would make every later frame look
old.

A new attempt starts at zero. It keeps the history, and the best that any attempt has reached.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from persistence.sanitize.text import Tokens, redact_text
from persistence.schema.ids import CrawlerJobId
from tasks.contract.frames import (
    JobCompletedFrame,
    JobFailedFrame,
    JobFrame,
    JobProgressData,
    JobProgressFrame,
    JobStartedFrame,
)

Json = dict[str, Any]

MAX_COUNTS = 500
MAX_SNAPSHOTS = 50

STEP = 0.05
"""A snapshot is taken when completion has risen by this much, or a milestone was reached."""

MILESTONES = {0.25: "25%", 0.5: "50%", 0.75: "75%", 0.9: "90%"}

LONGEST_SECONDS = 1e9

_WORDS = re.compile(r".{1,15}|[a-z]{1,20}(?:[_-][a-z]{1,20}){0,5}|[A-Z]?[a-z]{1,20}(?:[A-Z][a-z]{1,20}){0,5}")
"""What is no access token: a short text, or words. A token of 16 letters or more has digits or capitals within."""

_ID = re.compile(r"[\w-]{0,12}|\d{1,20}|gid://[a-z]{1,20}/[A-Za-z:]{1,60}/\d{1,20}|" + _WORDS.pattern)

_ESTIMATES = ("current_page", "processing_rate", "estimated_time_remaining")

_Completion = Annotated[float, Field(ge=0, le=1)]
_Counted = Annotated[int, Field(ge=0, le=2**53)]


class _Stored(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Snapshot:
    """How far an attempt was at some time."""

    at: AwareDatetime
    attempt: str
    completion: _Completion
    processed: int


@dataclass(frozen=True)
class Best:
    """The furthest that any attempt of the job came."""

    completion: _Completion = 0.0
    processed: int = 0
    page: int = 0


class Discovered(_Stored):
    """The results of an attempt's discoveries, and the last summary from the crawler."""

    frames: _Counted = 0
    groups: _Counted = 0
    projects: _Counted = 0
    users: _Counted = 0
    namespaces: _Counted = 0
    jobs: _Counted = 0
    existing: _Counted = 0
    queued_again: _Counted = 0
    deferred: _Counted = 0
    out_of_scope: _Counted = 0
    not_created: _Counted = 0
    areas_refused: _Counted = 0
    summary: dict[str, _Counted] = Field(default_factory=dict)


class Progress(_Stored):
    """The JSON in `job.progress`, in camelCase. Keys that others add are kept within an attempt."""

    model_config = ConfigDict(extra="allow")

    crawler_job_id: str
    """The attempt that it is about."""
    completion: _Completion = 0.0
    counts: dict[str, _Counted] = Field(default_factory=dict)
    totals: dict[str, _Counted] = Field(default_factory=dict)
    """By entity type, as far as they were reported."""
    stage: str | None = None
    entity_type: str | None = None
    message: str | None = None
    current_page: int | None = None
    max_page: int | None = None
    """The highest page that the attempt reported, also in a resume state."""
    processing_rate: float | None = None
    """Items a second."""
    estimated_time_remaining: float | None = None
    """Seconds, as the crawler estimates."""
    started_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None
    """The times of the attempt's first and newest frame, by the crawler's clock."""
    resume_state_at: AwareDatetime | None = None
    seconds_elapsed: float | None = None
    seconds_remaining: float | None = None
    milestones: dict[str, AwareDatetime] = Field(default_factory=dict)
    """started, 25%, 50%, 75%, 90%, completed, failed: when each was reached."""
    history: list[Snapshot] = Field(default_factory=list)
    best: Best = Field(default_factory=Best)
    discovery: Discovered | None = None

    @property
    def processed(self) -> int:
        """Everything that was counted."""
        return sum(self.counts.values())

    def json_(self) -> str:
        """As it is stored."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


@dataclass(frozen=True)
class Advance:
    """The progress of a job after some frames."""

    progress: Progress | None
    """None if the frames do not report any."""
    resume_state: Json | None
    """Where the next attempt may start; None if the frames have no new one."""
    is_best: bool
    """True if the job is further than any attempt was before."""
    advances: bool
    """True if this attempt is further than it was before: a higher count, a higher page, or a new entity type."""


def advance(
    before: str | None,
    attempt: CrawlerJobId,
    frames: Iterable[JobFrame],
    received_at: datetime,
    tokens: Callable[[], Tokens] = tuple,
) -> Advance:
    """
    The progress after *frames* of one attempt, in any order.

    *before* is the JSON in `job.progress`, *received_at* the database's time. *tokens* reads the tokens to mask by
    value; it is called only if there is a text that may hold one.
    """
    frames = list(frames)
    if not frames:
        return Advance(None, None, is_best=False, advances=False)
    progress = _current_progress(before, attempt)
    best = progress.best
    resume_state = None
    advances = False
    for frame in frames:
        at = min(frame.timestamp, received_at)
        advances |= _merge(progress, frame, at, tokens)
        state = frame.data.resume_state if isinstance(frame, (JobProgressFrame, JobFailedFrame)) else None
        if state is not None and (progress.resume_state_at is None or at >= progress.resume_state_at):
            progress.resume_state_at, resume_state = at, _masked(state.stored(), tokens)
    progress.best = _best(progress, resume_state)
    _update_times(progress)
    return Advance(progress, resume_state, is_best=progress.best != best, advances=advances)


def has_advanced(before: str | None, attempt: CrawlerJobId) -> bool:
    """True if the JSON in `job.progress` says that this attempt has counted, found or paged through anything."""
    progress = _current_progress(before, attempt)
    found = progress.discovery
    has_found = found is not None and found.groups + found.projects + found.users + found.namespaces > 0
    return has_found or progress.processed > 0 or bool(progress.max_page)


def with_discovery(
    before: str | None, attempt: CrawlerJobId, found: Counter[str], summary: dict[str, int]
) -> Progress:
    """
    The progress after a discovery was applied.

    `discovery` has its sums: frames, groups, projects, users, namespaces, jobs (created), existing, queuedAgain,
    deferred, notCreated, outOfScope, areasRefused; and the last summary from the crawler.
    """
    progress = _current_progress(before, attempt)
    current = progress.discovery or Discovered()
    sums = Counter(current.model_dump(by_alias=True, exclude={"summary"})) + found + Counter(frames=1)
    progress.discovery = Discovered.model_validate(sums)
    progress.discovery.summary = current.summary | summary
    return progress


def _current_progress(before: str | None, attempt: CrawlerJobId) -> Progress:
    """The progress of this attempt so far; empty for a new attempt, or if the JSON is not ours."""
    if before is None:
        return Progress(crawler_job_id=attempt)
    try:
        progress = Progress.model_validate_json(before)
    except ValueError:  # also if it is nested deeper than pydantic reads; whatever it reads it can write
        return Progress(crawler_job_id=attempt)
    if progress.crawler_job_id == attempt:
        return progress
    return Progress(crawler_job_id=attempt, history=progress.history, best=progress.best)


def _merge(progress: Progress, frame: JobFrame, at: datetime, tokens: Callable[[], Tokens]) -> bool:
    """Merge in a frame; True if the attempt is further than before."""
    is_newest = progress.updated_at is None or at >= progress.updated_at
    progress.started_at = min(progress.started_at or at, at)
    progress.updated_at = max(progress.updated_at or at, at)
    reached, advances = set(), False
    match frame:
        case JobStartedFrame():
            reached.add("started")
        case JobProgressFrame(data=data):
            types = len(progress.counts)
            advances = _raise_counts(progress.counts, {data.entity_type: data.processed}, tokens)
            advances |= len(progress.counts) > types
            advances |= _raise_counts(progress.counts, data.item_counts or {}, tokens)
            advances |= _raise_page(progress, data)
            _raise_counts(progress.totals, {data.entity_type: data.total} if data.total else {}, tokens)
            if is_newest:
                _update_latest(progress, data, tokens)
        case JobCompletedFrame(data=data):
            _raise_counts(progress.counts, data.final_counts, tokens)
            reached.add("completed" if data.success else "failed")
        case JobFailedFrame(data=data):
            _raise_counts(progress.counts, data.partial_counts or {}, tokens)
            reached.add("failed")
    progress.completion = max(progress.completion, 1.0 if "completed" in reached else _share(progress))
    reached.update(name for share, name in MILESTONES.items() if progress.completion >= share)
    _record_milestones(progress, reached - progress.milestones.keys(), at)
    return advances


def _raise_page(progress: Progress, data: JobProgressData) -> bool:
    """Raise the highest page; True if it rose."""
    resumed = data.resume_state.current_page if data.resume_state else None
    page = max(data.current_page or 0, resumed or 0)
    if page <= (progress.max_page or 0):
        return False
    progress.max_page = page
    return True


def _update_latest(progress: Progress, data: JobProgressData, tokens: Callable[[], Tokens]) -> None:
    """Replace what only the newest frame decides."""
    progress.stage, progress.entity_type = data.stage, name_without_secrets(data.entity_type, tokens)
    if data.message is not None:
        progress.message = redact_text(data.message, tokens())
    for name in _ESTIMATES:
        if (value := getattr(data, name)) is not None:
            setattr(progress, name, value)


def _record_milestones(progress: Progress, reached: set[str], at: datetime) -> None:
    """Record milestones, each once, and take a snapshot at each of them and whenever completion has risen by STEP."""
    progress.milestones.update(dict.fromkeys(sorted(reached), at))
    last = progress.history[-1] if progress.history else None
    seen = last.completion if last and last.attempt == progress.crawler_job_id else 0.0
    if reached or progress.completion >= seen + STEP:
        snapshot = Snapshot(
            at=progress.updated_at or at,
            attempt=progress.crawler_job_id,
            completion=progress.completion,
            processed=progress.processed,
        )
        progress.history = [*progress.history, snapshot][-MAX_SNAPSHOTS:]


def name_without_secrets(name: str, tokens: Callable[[], Tokens]) -> str:
    """A name without secrets."""
    return _redacted(name) if _WORDS.fullmatch(name) else redact_text(name, tokens())


@lru_cache(maxsize=4096)
def _redacted(words: str) -> str:
    """Cached: there are few names, and each is reported again and again."""
    return redact_text(words)


def id_without_secrets(id_: str, tokens: Callable[[], Tokens]) -> str:
    """An id without secrets."""
    return id_ if _ID.fullmatch(id_) else redact_text(id_, tokens())


def _masked(state: Json, tokens: Callable[[], Tokens]) -> Json:
    """A resume state without secrets."""
    return {
        name: id_without_secrets(value, tokens) if isinstance(value, str) else value
        for name, value in state.items()
    }


def _raise_counts(kept: dict[str, int], counts: dict[str, int], tokens: Callable[[], Tokens]) -> bool:
    """
    Raise counts; True if one rose.

    New names beyond MAX_COUNTS are left out: the row would grow with every frame.
    """
    has_risen = False
    for reported, count in counts.items():
        name = name_without_secrets(reported, tokens)
        if name in kept or len(kept) < MAX_COUNTS:
            before = kept.get(name, 0)
            has_risen |= count > before
            kept[name] = max(before, count)
    return has_risen


def _share(progress: Progress) -> float:
    """The processed share of everything whose total is known."""
    total = sum(progress.totals.values())
    done = sum(min(progress.counts.get(name, 0), of) for name, of in progress.totals.items())
    return done / total if total else 0.0


def _best(progress: Progress, resume_state: Json | None) -> Best:
    page = max(progress.current_page or 0, (resume_state or {}).get("currentPage") or 0)
    best = progress.best
    return Best(
        completion=max(best.completion, progress.completion),
        processed=max(best.processed, progress.processed),
        page=max(best.page, page),
    )


def _update_times(progress: Progress) -> None:
    assert progress.started_at is not None
    assert progress.updated_at is not None
    elapsed = (progress.updated_at - progress.started_at).total_seconds()
    progress.seconds_elapsed = elapsed
    remaining = _remaining(progress, elapsed)
    progress.seconds_remaining = None if remaining is None else round(remaining, 3)


def _remaining(progress: Progress, elapsed: float) -> float | None:
    """Seconds, as the crawler estimates, else at its rate, else at the pace so far; None if none of these is known."""
    total, share = sum(progress.totals.values()), progress.completion
    if share == 1.0:
        return 0.0
    if progress.estimated_time_remaining is not None:
        seconds = progress.estimated_time_remaining
    elif progress.processing_rate and total:
        seconds = (1 - share) * total / progress.processing_rate
    elif share and elapsed:
        seconds = elapsed * (1 - share) / share
    else:
        return None
    return min(seconds, LONGEST_SECONDS)
