"""
What crawlers say: `crawler.frames`, the one door for it.

Every frame proves life. Words on an attempt are heard under the fence: the attempt is locked, live
and of the connection that speaks, and all else is fed from what that lock returned. The rest is
stale: counted, never applied.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from persistence.attempts.attempts import Attempt
from persistence.error_log.log import JobError
from persistence.jobs.entries import Change, Entry
from persistence.jobs.jobs import KnownJob
from persistence.schema.event_types import EventType
from persistence.schema.ids import ConnectionId, CrawlerJobId
from persistence.schema.states import AssignmentStatus, JobStatus
from persistence.unit_of_work import UnitOfWork
from tasks.contract.frames import (
    Discovery,
    JobCompletedFrame,
    JobFailedData,
    JobFailedFrame,
    JobFrame,
    JobStartedFrame,
    TokenRefreshFrame,
)
from tasks.contract.payloads import Frames, SaidFrame
from tasks.contract.types import Ulid
from tasks.credentials.dead_token import lock_lanes, wait_for_tokens
from tasks.discovery.apply import hear_discoveries
from tasks.fleet.batch import Speech, Words, by_attempt
from tasks.fleet.connections import note_life
from tasks.jobs.progress import advance
from tasks.jobs.transitions import Held, announce, backoff, log_errors
from tasks.runtime.batches import in_halves, reject, valid_items
from tasks.runtime.task import task
from tasks.runtime.unit import message_id, unit_of_work

_FRAME = TypeAdapter(SaidFrame)
_CONNECTION_ID = TypeAdapter(Ulid)

_UNSUCCESSFUL = "CrawlUnsuccessful"
"""The error_type of a job_completed that says success=false."""

_UNNAMED = "CrawlFailed"
"""The error_type of a job_failed that names none."""


@task(name="crawler.frames", accepts=Frames)
def frames(payload: Frames) -> None:
    """Hear what crawlers said: what they discovered first, each in a unit of its own, then all else in one."""
    hear_discoveries(payload.frames)
    with unit_of_work() as uow:
        if uow.handled.claim(message_id()):
            hear_frames(uow, payload.frames)
        uow.commit()


def hear_frames(uow: UnitOfWork, items: list[Any]) -> None:
    """Apply the frames of one message; what is no frame is kept as rejected, and proves life all the same."""
    heard = dict(valid_items(uow, items, _FRAME))
    speech = Speech()
    for said in heard.values():
        speech.hear(said)
    for place, item in enumerate(items):
        if place not in heard and (speaker := _speaker(item)) is not None:
            speech.beat(speaker)
    lock_lanes(uow, speech.frames)
    live = note_life(uow, speech.beats.values())
    if speech.wants_work & live:
        uow.ring("jobs.assign")
    in_halves(
        uow,
        speech.frames,
        lambda part: hear_words(uow, by_attempt(part)),
        lambda said, why: reject(uow, _item(*said), "refused_by_database", why),
    )


def _speaker(item: object) -> ConnectionId | None:
    """Who says it, whatever it is."""
    try:
        return ConnectionId(
            _CONNECTION_ID.validate_python(item.get("connection_id") if isinstance(item, dict) else None)
        )
    except ValidationError:
        return None


def _item(connection_id: ConnectionId, frame: JobFrame | Discovery) -> dict[str, Any]:
    """The frame as the message had it. Not as JSON yet: a discovery may be nested deeper than that is written."""
    said = frame.model_dump(by_alias=True, warnings=False)
    return {"connection_id": connection_id, "frame": said}


def hear_words(uow: UnitOfWork, words: list[Words]) -> None:
    """Apply words on attempts. The speakers' connections are locked already, by their beat."""
    if not words:
        return
    known = uow.assignments.find(w.crawler_job_id for w in words)
    entries = uow.queue.lock(attempt.job_id for attempt in known.values())
    live = uow.assignments.lock_fenced([(w.connection_id, w.crawler_job_id) for w in words])
    jobs = uow.jobs.lock(attempt.job_id for attempt in live.values())
    heard = []
    for said in words:
        attempt = live.get((said.connection_id, said.crawler_job_id))
        if attempt is not None:
            heard.append(Heard(said, attempt, entries.get(attempt.job_id), jobs[attempt.job_id]))
    _count_stale(uow, words, known, live)
    _go_on(uow, heard)
    _complete(uow, [h for h in heard if h.succeeded])
    _fail(uow, [h for h in heard if h.failure])
    wait_for_tokens(
        uow,
        [(h.attempt, h.words.terminal) for h in heard if isinstance(h.words.terminal, TokenRefreshFrame)],
        Held(entries, {attempt.crawler_job_id: attempt for attempt in live.values()}, jobs),
    )
    _free_seats(uow, words, live)


@dataclass(frozen=True)
class Heard:
    """Words that passed the fence, with what they speak of, locked."""

    words: Words
    attempt: Attempt
    entry: Entry | None
    job: KnownJob

    @property
    def succeeded(self) -> bool:
        """Whether they end the attempt well."""
        terminal = self.words.terminal
        return isinstance(terminal, JobCompletedFrame) and terminal.data.success

    @property
    def failure(self) -> JobFailedData | None:
        """What failed, where they end the attempt badly."""
        match self.words.terminal:
            case JobFailedFrame(data=data):
                return data
            case JobCompletedFrame(data=data):
                error = data.message or "the crawler reported no success"
                return (
                    None
                    if data.success
                    else JobFailedData(error=error, error_type=_UNSUCCESSFUL, is_recoverable=True)
                )
            case _:
                return None


def _count_stale(
    uow: UnitOfWork,
    words: Iterable[Words],
    known: dict[CrawlerJobId, Attempt],
    live: dict[tuple[ConnectionId, CrawlerJobId], Attempt],
) -> None:
    """Count words without the fence on the attempt that they name; an id never given is rejected."""
    stale: Counter[CrawlerJobId] = Counter()
    applied = uow.assignments.discoveries([w.crawler_job_id for w in words if w.discoveries])
    for said in words:
        if said.crawler_job_id not in known:
            for frame in (*said.frames, *said.discoveries, *said.late):
                reject(uow, _item(said.connection_id, frame), "unknown_assignment")
        else:
            is_live = (said.connection_id, said.crawler_job_id) in live
            marks = applied.get(said.crawler_job_id, set())
            unheard = [d for d in said.discoveries if (d.timestamp, d.digest) not in marks]
            stale[said.crawler_job_id] += len(unheard) + (len(said.late) if is_live else said.count)
    uow.assignments.count_stale(+stale)


def _go_on(uow: UnitOfWork, heard: list[Heard]) -> None:
    """Attempts began or go on: running, their job too, with what progress they made."""
    running = [h for h in heard if not h.words.terminal]
    uow.assignments.run(h.attempt.crawler_job_id for h in running)
    jobs = {h.job.id: h.job for h in heard}
    silent = uow.jobs.start(h.job.id for h in heard if not h.words.frames)  # only discoveries were said
    spoken = {h.job.id for h in heard if h.words.frames and h.job.status is JobStatus.QUEUED}
    announce(uow, jobs, silent | spoken, JobStatus.RUNNING)
    _advance(uow, [h for h in heard if h.words.frames])


def _advance(uow: UnitOfWork, heard: list[Heard]) -> None:
    """Write how far the jobs are, that they run or are finished: once a job, however many words there were."""
    if not heard:
        return
    now = uow.now()
    steps = [
        (h, advance(h.job.progress, h.attempt.crawler_job_id, h.words.frames, now), h.succeeded)
        for h in heard
    ]
    uow.jobs.advance(
        [
            {
                "id": h.job.id,
                "progress": step.progress,
                "resume_state": step.resume_state,
                "runs": True,
                "ends": ends,
            }
            for h, step, ends in steps
        ]
    )
    uow.queue.forgive_losses(h.job.id for h, step, _ in steps if step.is_best)
    for h, step, _ in steps:
        if step.progress is None or all(isinstance(frame, JobStartedFrame) for frame in h.words.frames):
            continue  # that it runs is told already
        uow.events.add(
            EventType.PROGRESS_UPDATED,
            job_id=h.job.id,
            account_id=h.job.account_id,
            connection_id=h.attempt.connection_id,
            completion=step.progress.completion,
        )


def _complete(uow: UnitOfWork, heard: list[Heard]) -> None:
    """Attempts succeeded; that their jobs are finished was written with the progress."""
    if not heard:
        return
    uow.assignments.close([h.attempt for h in heard], AssignmentStatus.COMPLETED)
    uow.queue.complete(h.job.id for h in heard)
    finished = [h.job.id for h in heard if h.job.status in (JobStatus.QUEUED, JobStatus.RUNNING)]
    announce(uow, {h.job.id: h.job for h in heard}, finished, JobStatus.FINISHED)


def _fail(uow: UnitOfWork, heard: list[Heard]) -> None:
    """Attempts failed: their jobs are queued again, later, or have failed for good."""
    if not heard:
        return
    uow.assignments.close([h.attempt for h in heard], AssignmentStatus.FAILED)
    changes = {h.job.id: _after_failure(h.entry, h.failure) for h in heard if h.entry and h.failure}
    uow.queue.change(changes.values())
    again = {job_id for job_id, change in changes.items() if change.retry_in is not None}
    jobs = {h.job.id: h.job for h in heard}
    announce(uow, jobs, uow.jobs.release(again), JobStatus.QUEUED)
    announce(uow, jobs, uow.jobs.fail(changes.keys() - again), JobStatus.FAILED)
    log_errors(uow, [(_error(h, h.failure), h.job.account_id) for h in heard if h.failure])


def _after_failure(entry: Entry, failure: JobFailedData) -> Change:
    attempts = entry.attempts + 1
    again = failure.is_recoverable and attempts < entry.max_attempts
    return Change(
        entry,
        attempts=attempts,
        losses=0,  # a crawler that reports has survived
        goodbyes=entry.goodbyes,
        retry_in=backoff(attempts) if again else None,
        error=failure.error_type or _UNNAMED,
    )


def _error(heard: Heard, failure: JobFailedData) -> JobError:
    attempt = heard.attempt
    return JobError(
        job_id=heard.job.id,
        error_type=failure.error_type or _UNNAMED,
        message=failure.error,
        stack_trace=failure.stack_trace,
        context=failure.context,
        attempt={"crawler_job_id": attempt.crawler_job_id, "connection_id": attempt.connection_id},
        retry_count=heard.entry.attempts + 1 if heard.entry else 0,
        is_recoverable=failure.is_recoverable,
    )


def _free_seats(
    uow: UnitOfWork, words: list[Words], live: dict[tuple[ConnectionId, CrawlerJobId], Attempt]
) -> None:
    """A crawler that ended an attempt, revoked or not, does not work on it any more."""
    ended = [(w.connection_id, w.crawler_job_id) for w in words if w.terminal]
    freed = [seat for seat in ended if seat in live]
    uow.connections.free_seats(freed, said=ended)
    if freed:
        uow.ring("jobs.assign")
