"""
The task `crawler.frames`: the only way in for what crawlers report.

Every frame proves that its connection is alive. A frame about an attempt is applied only under the fence:
the attempt is locked, live, and belongs to the connection that sent the frame. All other frames are stale:
they are counted on the attempt that they name and change nothing else.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from persistence.attempts.attempts import Attempt
from persistence.error_log.log import JobError
from persistence.fleet.connections import Beat
from persistence.fleet.slots import ENDS_WINDOW
from persistence.jobs.entries import Entry, EntryUpdate
from persistence.jobs.jobs import KnownJob
from persistence.schema.event_types import EventType
from persistence.schema.ids import ConnectionId, CrawlerJobId
from persistence.schema.states import JOB_CRAWLABLE, AttemptStatus, JobStatus
from persistence.unit_of_work import UnitOfWork
from tasks.contract.frames import (
    JobCompletedFrame,
    JobFailedData,
    JobFailedFrame,
    JobStartedFrame,
    TokenRefreshFrame,
)
from tasks.contract.payloads import Frames
from tasks.credentials.dead_token import lock_account_queues, wait_for_tokens
from tasks.credentials.doubted_token import refused_reports
from tasks.discovery.apply import apply_discoveries
from tasks.fleet.batch import AttemptFrames, FrameBatch, group_by_attempt
from tasks.fleet.connections import apply_heartbeats
from tasks.fleet.refused import RefusedFrames
from tasks.fleet.texts import redact_frames
from tasks.jobs.locking import lock_fenced
from tasks.jobs.progress import Advance, advance
from tasks.jobs.transitions import announce, backoff, log_errors
from tasks.runtime.batches import bisect_on_refusal
from tasks.runtime.task import task
from tasks.runtime.unit import unit_of_work

_UNSUCCESSFUL = "CrawlUnsuccessful"
"""The error_type of a job_completed with success=false."""

_TOKEN = "CredentialExpired"  # noqa: S105 - not a password
_TOO_OFTEN = "the crawler said of too many accounts within an hour that their tokens died"

_UNNAMED = "CrawlFailed"
"""The error_type of a job_failed that names none."""


@task(name="crawler.frames", accepts=Frames)
def frames(payload: Frames) -> None:
    """Apply the frames of one message: first its discoveries, each in a transaction of its own, then the rest."""
    batch = FrameBatch.parse(payload.frames)
    discoveries = batch.discoveries
    if discoveries:
        _record_senders(batch)
    redact_frames(batch)
    refused = RefusedFrames(payload.frames, batch)
    apply_discoveries(discoveries, refused)
    refused.apply(lambda uow: apply_batch(uow, batch, refused))


def _record_senders(batch: FrameBatch) -> None:
    """Record that the senders are alive. A large discovery takes seconds, in which a sweep may judge them."""
    with unit_of_work() as uow:
        uow.connections.record_heartbeats([Beat(connection_id) for connection_id in batch.beats])
        uow.commit()


def apply_batch(uow: UnitOfWork, batch: FrameBatch, refused: RefusedFrames) -> None:
    """Apply everything in a message except its discoveries, and note what is refused, without its payload."""
    uow.tokens.name(fences=(frame.job_id for _, frame in batch.frames), connections=batch.beats)
    lock_account_queues(uow, batch.frames)
    beats = apply_heartbeats(uow, batch.beats.values())
    if batch.wants_work & beats.live:
        uow.publish("jobs.assign")
    bisect_on_refusal(
        uow,
        batch.frames,
        lambda part: apply_frames(uow, group_by_attempt(part), refused),
        lambda frame, why: refused.claim_frame(uow, *frame, "refused_by_database", why),
    )


@dataclass(frozen=True)
class FencedFrames:
    """Frames that passed the fence, with the locked rows that they are about."""

    reported: AttemptFrames
    attempt: Attempt
    entry: Entry | None
    job: KnownJob
    is_refused: bool = False
    """True if its connection has said too often that tokens died."""

    @property
    def succeeded(self) -> bool:
        """True if the frames end the attempt successfully."""
        terminal = self.reported.terminal
        return isinstance(terminal, JobCompletedFrame) and terminal.data.success

    @property
    def failure(self) -> JobFailedData | None:
        """The failure, if the frames end the attempt with one."""
        match self.reported.terminal:
            case JobFailedFrame(data=data):
                return data
            case JobCompletedFrame(data=data) if not data.success:
                error = data.message or "the crawler reported no success"
                return JobFailedData(error=error, error_type=_UNSUCCESSFUL, is_recoverable=True)
            case TokenRefreshFrame() if self.is_refused:
                return JobFailedData(error=_TOO_OFTEN, error_type=_TOKEN, is_recoverable=True)
            case _:
                return None


def apply_frames(uow: UnitOfWork, attempts: list[AttemptFrames], refused: RefusedFrames) -> None:
    """Apply frames about attempts. The heartbeats of this unit have locked the connections of their senders."""
    if not attempts:
        return
    known = uow.attempts.find(a.crawler_job_id for a in attempts)
    locked, live = lock_fenced(uow, known.values(), [(a.connection_id, a.crawler_job_id) for a in attempts])
    fenced = [
        FencedFrames(reported, attempt, locked.entries.get(attempt.job_id), locked.jobs[attempt.job_id])
        for reported in attempts
        if (attempt := live.get((reported.connection_id, reported.crawler_job_id)))
    ]
    if ignored := refused_reports(
        uow, [f.attempt for f in fenced if isinstance(f.reported.terminal, TokenRefreshFrame)]
    ):
        fenced = [replace(f, is_refused=f.attempt.crawler_job_id in ignored) for f in fenced]
    _count_stale(uow, attempts, known, live, refused)
    steps = _steps(uow, [f for f in fenced if f.reported.frames])
    _mark_running(uow, fenced, {f.attempt.crawler_job_id for f, step in steps if step.advances})
    _advance(uow, steps)
    _complete(uow, [f for f in fenced if f.succeeded])
    _fail(uow, [f for f in fenced if f.failure])
    wait_for_tokens(
        uow,
        [
            (f.attempt, f.reported.terminal)
            for f in fenced
            if isinstance(f.reported.terminal, TokenRefreshFrame) and not f.is_refused
        ],
        locked,
    )
    _free_slots(uow, attempts, live)


def _count_stale(
    uow: UnitOfWork,
    attempts: Iterable[AttemptFrames],
    known: dict[CrawlerJobId, Attempt],
    live: dict[tuple[ConnectionId, CrawlerJobId], Attempt],
    refused: RefusedFrames,
) -> None:
    """Count stale frames on the attempts that they name; reject the frames of a crawler_job_id that never was."""
    stale: Counter[CrawlerJobId] = Counter()
    applied = uow.attempts.applied_discoveries([a.crawler_job_id for a in attempts if a.discoveries])
    for reported in attempts:
        if reported.crawler_job_id not in known:
            for frame in (*reported.frames, *reported.discoveries, *reported.trailing):
                refused.claim_frame(uow, reported.connection_id, frame, "unknown_assignment")
        else:
            is_live = (reported.connection_id, reported.crawler_job_id) in live
            applied_keys = applied.get(reported.crawler_job_id, set())
            unapplied = [d for d in reported.discoveries if (d.timestamp, d.digest) not in applied_keys]
            stale[reported.crawler_job_id] += len(unapplied) + (
                len(reported.trailing) if is_live else reported.count
            )
    uow.attempts.count_stale(+stale)


def _steps(uow: UnitOfWork, fenced: list[FencedFrames]) -> list[tuple[FencedFrames, Advance]]:
    """The progress that the frames add up to."""
    if not fenced:
        return []
    now = uow.now()
    return [
        (f, advance(f.job.progress, f.attempt.crawler_job_id, f.reported.frames, now, uow.tokens.values))
        for f in fenced
    ]


def _mark_running(uow: UnitOfWork, fenced: list[FencedFrames], advancing: set[CrawlerJobId]) -> None:
    """
    Mark attempts that go on, and their jobs, as running.

    One that runs already is written only if it advances: a crawler that repeats itself is stalled.
    """
    running = [f.attempt for f in fenced if not f.reported.terminal]
    uow.attempts.mark_running(
        a.crawler_job_id
        for a in running
        if a.status is AttemptStatus.ASSIGNED or a.crawler_job_id in advancing
    )
    jobs = {f.job.id: f.job for f in fenced}
    # A job with discoveries alone starts here; one with other frames starts as its progress is written.
    discovering = uow.jobs.start(f.job.id for f in fenced if not f.reported.frames)
    reporting = {f.job.id for f in fenced if f.reported.frames and f.job.status is JobStatus.QUEUED}
    announce(uow, jobs, discovering | reporting, JobStatus.RUNNING)


def _advance(uow: UnitOfWork, steps: list[tuple[FencedFrames, Advance]]) -> None:
    """Write the progress of jobs, and that they run or are finished: one row per job, however many frames."""
    if not steps:
        return
    uow.jobs.advance(
        [
            {
                "id": f.job.id,
                "progress": step.progress,
                "resume_state": step.resume_state,
                "runs": True,
                "ends": f.succeeded,
            }
            for f, step in steps
        ]
    )
    uow.entries.clear_losses(f.job.id for f, step in steps if step.is_best)
    for f, step in steps:
        if step.progress is None or all(isinstance(frame, JobStartedFrame) for frame in f.reported.frames):
            continue  # job_updated reports the start already
        uow.events.add(
            EventType.PROGRESS_UPDATED,
            job_id=f.job.id,
            account_id=f.job.account_id,
            connection_id=f.attempt.connection_id,
            completion=step.progress.completion,
        )


def _complete(uow: UnitOfWork, fenced: list[FencedFrames]) -> None:
    """Close attempts that succeeded. `_advance` has already marked their jobs as finished."""
    if not fenced:
        return
    uow.attempts.close([f.attempt for f in fenced], AttemptStatus.COMPLETED)
    uow.entries.mark_completed(f.job.id for f in fenced)
    finished = [f.job.id for f in fenced if f.job.status in JOB_CRAWLABLE]
    attempts = {f.job.id: f.attempt for f in fenced}
    announce(uow, {f.job.id: f.job for f in fenced}, finished, JobStatus.FINISHED, attempts)


def _fail(uow: UnitOfWork, fenced: list[FencedFrames]) -> None:
    """Close attempts that failed. Their jobs are queued again with a backoff, or fail for good."""
    if not fenced:
        return
    uow.attempts.close([f.attempt for f in fenced], AttemptStatus.FAILED)
    updates = {f.job.id: _after_failure(f.entry, f.failure) for f in fenced if f.entry and f.failure}
    uow.entries.update(updates.values())
    again = {job_id for job_id, update in updates.items() if update.retry_in is not None}
    jobs = {f.job.id: f.job for f in fenced}
    attempts = {f.job.id: f.attempt for f in fenced}
    announce(uow, jobs, uow.jobs.release(again), JobStatus.QUEUED, attempts)
    announce(uow, jobs, uow.jobs.fail(updates.keys() - again), JobStatus.FAILED, attempts)
    log_errors(uow, [(_error(f, f.failure), f.job.account_id) for f in fenced if f.failure])


def _after_failure(entry: Entry, failure: JobFailedData) -> EntryUpdate:
    attempts = entry.attempts + 1
    again = failure.is_recoverable and attempts < entry.max_attempts
    return EntryUpdate(
        entry,
        attempts=attempts,
        losses=0,  # a crawler that reports a failure has survived it
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
    """Free the slots of ended attempts. A crawler no longer works on what it ended, even if that was revoked."""
    ended = [(a.connection_id, a.crawler_job_id) for a in attempts if a.terminal]
    freed = [slot for slot in ended if slot in live]
    for connection_id, ends in uow.slots.free(freed, reported_ended=ended).items():
        uow.events.add(
            EventType.IMPLAUSIBLE_ENDS,
            connection_id=connection_id,
            ended=ends,
            seconds=ENDS_WINDOW.total_seconds(),
        )
    if freed:
        uow.publish("jobs.assign")
