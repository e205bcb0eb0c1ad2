"""The task `failures.log`: stores errors of jobs that other programs report, and changes nothing else."""

from typing import Any, TypeAlias

from pydantic import TypeAdapter

from persistence.error_log.log import CONTEXT_BYTES, MESSAGE_BYTES, TRACE_BYTES, TYPE_BYTES, JobError
from persistence.schema.ids import CrawlerJobId, JobId
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Failure, LogFailures
from tasks.jobs.transitions import log_errors
from tasks.runtime.batches import bisect_on_refusal
from tasks.runtime.task import task
from tasks.sanitize.refused import RefusedItems
from tasks.sanitize.texts import redact_texts, text_of

_FAILURE = TypeAdapter(Failure)

_Said: TypeAlias = tuple[int, Failure]
"""An error with its position in the message."""

_LIMITS = {
    "error_type": TYPE_BYTES,
    "error_message": MESSAGE_BYTES,
    "stack_trace": TRACE_BYTES,
    "context": CONTEXT_BYTES,
}


@task(name="failures.log", accepts=LogFailures)
def log_failures(payload: LogFailures) -> None:
    """Store these errors."""
    refused = RefusedItems(payload.errors)
    failures = redact_failures(refused.valid(_FAILURE), refused)

    def change(uow: UnitOfWork) -> None:
        refused.name_tokens(uow)
        bisect_on_refusal(
            uow,
            failures,
            lambda part: record(uow, part, refused),
            lambda failure, why: refused.claim(uow, failure[0], "refused_by_database", why),
        )

    refused.apply(change)


def redact_failures(failures: list[_Said], refused: RefusedItems) -> list[_Said]:
    """The errors, their texts redacted if there are many, before a transaction begins."""
    texts = [
        text_of((index, field), value, limit)
        for index, (_, failure) in enumerate(failures)
        for field, limit in _LIMITS.items()
        if (value := getattr(failure, field))
    ]
    changed: dict[int, dict[str, Any]] = {}
    for (index, field), value in redact_texts(texts, refused.name_tokens).items():
        changed.setdefault(index, {})[field] = value
    return [
        (position, failure.model_copy(update=changed[index]) if index in changed else failure)
        for index, (position, failure) in enumerate(failures)
    ]


def record(uow: UnitOfWork, failures: list[_Said], refused: RefusedItems) -> None:
    """Store the errors of jobs that exist, which stay locked until the commit; reject the others."""
    uow.tokens.name(jobs=(f.job_id for _, f in failures if f.job_id))
    attempts = uow.attempts.find(CrawlerJobId(f.crawler_job_id) for _, f in failures if f.crawler_job_id)
    of_attempt = {fence: attempt.job_id for fence, attempt in attempts.items()}
    named = [
        (position, f, JobId(f.job_id) if f.job_id else of_attempt.get(CrawlerJobId(f.crawler_job_id or "")))
        for position, f in failures
    ]
    jobs = uow.jobs.lock_key_share(job_id for _, _, job_id in named if job_id)
    errors = []
    for position, failure, job_id in named:
        if job_id is None or job_id not in jobs:
            refused.claim(uow, position, "unknown_job")
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
