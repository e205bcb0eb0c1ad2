"""The task `failures.log`: stores errors of jobs that other programs report, and changes nothing else."""

from pydantic import TypeAdapter

from persistence.error_log.log import JobError
from persistence.schema.ids import CrawlerJobId, JobId
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Failure, LogFailures
from tasks.jobs.transitions import log_errors
from tasks.runtime.batches import bisect_on_refusal, reject, valid_items
from tasks.runtime.task import task
from tasks.runtime.unit import message_id, unit_of_work

_FAILURE = TypeAdapter(Failure)


@task(name="failures.log", accepts=LogFailures)
def log_failures(payload: LogFailures) -> None:
    """Store these errors."""
    with unit_of_work() as uow:
        if uow.processed.mark_processed(message_id()):
            uow.tokens.name_within(list(payload.errors))
            failures = [failure for _, failure in valid_items(uow, payload.errors, _FAILURE)]
            bisect_on_refusal(
                uow,
                failures,
                lambda part: record(uow, part),
                lambda failure, why: reject(uow, failure.model_dump(mode="json"), "refused_by_database", why),
            )
        uow.commit()


def record(uow: UnitOfWork, failures: list[Failure]) -> None:
    """Store the errors of jobs that exist, which stay locked until the commit; reject the others."""
    uow.tokens.name(jobs=(f.job_id for f in failures if f.job_id))
    attempts = uow.attempts.find(CrawlerJobId(f.crawler_job_id) for f in failures if f.crawler_job_id)
    of_attempt = {fence: attempt.job_id for fence, attempt in attempts.items()}
    named = [
        (f, JobId(f.job_id) if f.job_id else of_attempt.get(CrawlerJobId(f.crawler_job_id or "")))
        for f in failures
    ]
    jobs = uow.jobs.lock_key_share(job_id for _, job_id in named if job_id)
    errors = []
    for failure, job_id in named:
        if job_id is None or job_id not in jobs:
            reject(uow, failure.model_dump(mode="json"), "unknown_job")
        else:
            errors.append((_error(failure, job_id), jobs[job_id].account_id))
    log_errors(uow, errors)


def _error(failure: Failure, job_id: JobId) -> JobError:
    return JobError(
        job_id=job_id,
        error_type=failure.error_type,
        message=failure.error_message,
        stack_trace=failure.stack_trace,
        context=failure.context,
        is_recoverable=failure.is_recoverable,
    )
