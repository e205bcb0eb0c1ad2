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
from persistence.jobs.entries import Entry, EntryUpdate
from persistence.jobs.jobs import KnownJob
from persistence.schema.event_types import EventType
from persistence.schema.ids import ConnectionId, CrawlerJobId
from persistence.schema.states import AttemptStatus, JobStatus
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
from tasks.credentials.dead_token import lock_account_queues, wait_for_tokens
from tasks.discovery.apply import apply_discoveries
from tasks.fleet.batch import AttemptFrames, FrameBatch, group_by_attempt
from tasks.fleet.connections import apply_heartbeats
from tasks.jobs.progress import advance
from tasks.jobs.transitions import LockedJobs, announce, backoff, log_errors
from tasks.runtime.batches import bisect_on_refusal, reject, valid_items
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
    apply_discoveries(payload.frames)
    with unit_of_work() as uow:
        if uow.processed.mark_processed(message_id()):
            apply_message(uow, payload.frames)
        uow.commit()


def apply_message(uow: UnitOfWork, items: list[Any]) -> None:
    """Apply the frames of one message; what is no frame is kept as rejected, and proves life all the same."""
    valid = dict(valid_items(uow, items, _FRAME))
    batch = FrameBatch()
    for received in valid.values():
        batch.add(received)
    for place, item in enumerate(items):
        if place not in valid and (sender := _sender(item)) is not None:
            batch.add_heartbeat(sender)
    lock_account_queues(uow, batch.frames)
    live = apply_heartbeats(uow, batch.beats.values())
    if batch.wants_work & live:
        uow.publish("jobs.assign")
    bisect_on_refusal(
        uow,
        batch.frames,
        lambda part: apply_frames(uow, group_by_attempt(part)),
        lambda received, why: reject(uow, _item(*received), "refused_by_database", why),
    )


def _sender(item: object) -> ConnectionId | None:
    """Who says it, whatever it is."""
    try:
        return ConnectionId(
            _CONNECTION_ID.validate_python(item.get("connection_id") if isinstance(item, dict) else None)
        )
    except ValidationError:
        return None


def _item(connection_id: ConnectionId, frame: JobFrame | Discovery) -> dict[str, Any]:
    """The frame as the message had it. Not as JSON yet: a discovery may be nested deeper than that is written."""
    dumped = frame.model_dump(by_alias=True, warnings=False)
    return {"connection_id": connection_id, "frame": dumped}


def apply_frames(uow: UnitOfWork, attempts: list[AttemptFrames]) -> None:
    """Apply words on attempts. The speakers' connections are locked already, by their beat."""
    if not attempts:
        return
    known = uow.attempts.find(a.crawler_job_id for a in attempts)
    entries = uow.entries.lock(attempt.job_id for attempt in known.values())
    live = uow.attempts.lock_fenced([(a.connection_id, a.crawler_job_id) for a in attempts])
    jobs = uow.jobs.lock(attempt.job_id for attempt in live.values())
    fenced = []
    for reported in attempts:
        attempt = live.get((reported.connection_id, reported.crawler_job_id))
        if attempt is not None:
            fenced.append(FencedFrames(reported, attempt, entries.get(attempt.job_id), jobs[attempt.job_id]))
    _count_stale(uow, attempts, known, live)
    _mark_running(uow, fenced)
    _complete(uow, [h for h in fenced if h.succeeded])
    _fail(uow, [h for h in fenced if h.failure])
    wait_for_tokens(
        uow,
        [
            (h.attempt, h.reported.terminal)
            for h in fenced
            if isinstance(h.reported.terminal, TokenRefreshFrame)
        ],
        LockedJobs(entries, {attempt.crawler_job_id: attempt for attempt in live.values()}, jobs),
    )
    _free_slots(uow, attempts, live)


@dataclass(frozen=True)
class FencedFrames:
    """Words that passed the fence, with what they speak of, locked."""

    reported: AttemptFrames
    attempt: Attempt
    entry: Entry | None
    job: KnownJob

    @property
    def succeeded(self) -> bool:
        """Whether they end the attempt well."""
        terminal = self.reported.terminal
        return isinstance(terminal, JobCompletedFrame) and terminal.data.success

    @property
    def failure(self) -> JobFailedData | None:
        """What failed, where they end the attempt badly."""
        match self.reported.terminal:
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
    attempts: Iterable[AttemptFrames],
    known: dict[CrawlerJobId, Attempt],
    live: dict[tuple[ConnectionId, CrawlerJobId], Attempt],
) -> None:
    """Count words without the fence on the attempt that they name; an id never given is rejected."""
    stale: Counter[CrawlerJobId] = Counter()
    applied = uow.attempts.applied_discoveries([a.crawler_job_id for a in attempts if a.discoveries])
    for reported in attempts:
        if reported.crawler_job_id not in known:
            for frame in (*reported.frames, *reported.discoveries, *reported.trailing):
                reject(uow, _item(reported.connection_id, frame), "unknown_assignment")
        else:
            is_live = (reported.connection_id, reported.crawler_job_id) in live
            applied_keys = applied.get(reported.crawler_job_id, set())
            unapplied = [d for d in reported.discoveries if (d.timestamp, d.digest) not in applied_keys]
            stale[reported.crawler_job_id] += len(unapplied) + (
                len(reported.trailing) if is_live else reported.count
            )
    uow.attempts.count_stale(+stale)


def _mark_running(uow: UnitOfWork, fenced: list[FencedFrames]) -> None:
    """Attempts began or go on: running, their job too, with what progress they made."""
    running = [h for h in fenced if not h.reported.terminal]
    uow.attempts.mark_running(h.attempt.crawler_job_id for h in running)
    jobs = {h.job.id: h.job for h in fenced}
    discovering = uow.jobs.start(
        h.job.id for h in fenced if not h.reported.frames
    )  # only discoveries were said
    reporting = {h.job.id for h in fenced if h.reported.frames and h.job.status is JobStatus.QUEUED}
    announce(uow, jobs, discovering | reporting, JobStatus.RUNNING)
    _advance(uow, [h for h in fenced if h.reported.frames])


def _advance(uow: UnitOfWork, fenced: list[FencedFrames]) -> None:
    """Write how far the jobs are, that they run or are finished: once a job, however many words there were."""
    if not fenced:
        return
    now = uow.now()
    steps = [
        (h, advance(h.job.progress, h.attempt.crawler_job_id, h.reported.frames, now), h.succeeded)
        for h in fenced
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
    uow.entries.clear_losses(h.job.id for h, step, _ in steps if step.is_best)
    for h, step, _ in steps:
        if step.progress is None or all(isinstance(frame, JobStartedFrame) for frame in h.reported.frames):
            continue  # that it runs is told already
        uow.events.add(
            EventType.PROGRESS_UPDATED,
            job_id=h.job.id,
            account_id=h.job.account_id,
            connection_id=h.attempt.connection_id,
            completion=step.progress.completion,
        )


def _complete(uow: UnitOfWork, fenced: list[FencedFrames]) -> None:
    """Attempts succeeded; that their jobs are finished was written with the progress."""
    if not fenced:
        return
    uow.attempts.close([h.attempt for h in fenced], AttemptStatus.COMPLETED)
    uow.entries.mark_completed(h.job.id for h in fenced)
    finished = [h.job.id for h in fenced if h.job.status in (JobStatus.QUEUED, JobStatus.RUNNING)]
    announce(uow, {h.job.id: h.job for h in fenced}, finished, JobStatus.FINISHED)


def _fail(uow: UnitOfWork, fenced: list[FencedFrames]) -> None:
    """Attempts failed: their jobs are queued again, later, or have failed for good."""
    if not fenced:
        return
    uow.attempts.close([h.attempt for h in fenced], AttemptStatus.FAILED)
    updates = {h.job.id: _after_failure(h.entry, h.failure) for h in fenced if h.entry and h.failure}
    uow.entries.update(updates.values())
    again = {job_id for job_id, update in updates.items() if update.retry_in is not None}
    jobs = {h.job.id: h.job for h in fenced}
    announce(uow, jobs, uow.jobs.release(again), JobStatus.QUEUED)
    announce(uow, jobs, uow.jobs.fail(updates.keys() - again), JobStatus.FAILED)
    log_errors(uow, [(_error(h, h.failure), h.job.account_id) for h in fenced if h.failure])


def _after_failure(entry: Entry, failure: JobFailedData) -> EntryUpdate:
    attempts = entry.attempts + 1
    again = failure.is_recoverable and attempts < entry.max_attempts
    return EntryUpdate(
        entry,
        attempts=attempts,
        losses=0,  # a crawler that reports has survived
        goodbyes=entry.goodbyes,
        retry_in=backoff(attempts) if again else None,
        error=failure.error_type or _UNNAMED,
    )


def _error(fenced: FencedFrames, failure: JobFailedData) -> JobError:
    attempt = fenced.attempt
    return JobError(
        job_id=fenced.job.id,
        error_type=failure.error_type or _UNNAMED,
        message=failure.error,
        stack_trace=failure.stack_trace,
        context=failure.context,
        attempt={"crawler_job_id": attempt.crawler_job_id, "connection_id": attempt.connection_id},
        retry_count=fenced.entry.attempts + 1 if fenced.entry else 0,
        is_recoverable=failure.is_recoverable,
    )


def _free_slots(
    uow: UnitOfWork, attempts: list[AttemptFrames], live: dict[tuple[ConnectionId, CrawlerJobId], Attempt]
) -> None:
    """A crawler that ended an attempt, revoked or not, does not work on it any more."""
    ended = [(a.connection_id, a.crawler_job_id) for a in attempts if a.terminal]
    freed = [slot for slot in ended if slot in live]
    uow.connections.free_slots(freed, reported_ended=ended)
    if freed:
        uow.publish("jobs.assign")
