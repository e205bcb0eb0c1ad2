"""The tasks `jobs.*` but the round, `credentials.*` and `failures.log`."""

from typing import Any

from proofs.model.clock import REDISCOVERY
from proofs.model.model import Message, Model
from proofs.model.reached import Reached
from proofs.model.state import (
    AUTHORIZATION_SCOPE,
    DISCOVERY,
    ENDED,
    TO_BE_CRAWLED,
    WAITING_FOR_TOKEN,
    Entry,
    Job,
)


def submit(model: Model, message: Message, _: Any) -> None:
    """jobs.submit: "Creates jobs and queues them." Rejected: `unknown_account`."""
    if not model.mark_processed(message):
        return
    for order in message.payload["orders"]:
        if order["account_id"] not in model.accounts:
            model.rejected["unknown_account"] += 1
            continue
        job = model.jobs.get(order["web_app_job_id"]) or model.twin(order["command"], order["namespace_path"])
        if job is None:
            _create(model, order)
        else:
            model.reach(Reached.ORDER_ANSWERED)
            if _is_queued_again(model, job, order):
                _queue_again(model, job, order)


def _create(model: Model, order: dict[str, Any]) -> None:
    job = Job(
        order["web_app_job_id"],
        model.accounts[order["account_id"]],
        order["command"],
        order["namespace_path"],
    )
    job.entry = Entry((model.now, model.now), priority=order.get("priority", 1))
    model.jobs[job.id] = job


def _is_queued_again(model: Model, job: Job, order: dict[str, Any]) -> bool:
    """
    Return True if an order for an existing job queues it again.

    jobs.submit: with `force`, unless it is "queued or running"; and without `force` "a GROUP_PROJECT_DISCOVERY
    that failed, was cancelled, or finished longer than CRAWLYARD_REDISCOVERY_INTERVAL … ago".
    """
    if order.get("force"):
        return job.status not in TO_BE_CRAWLED
    if job.command != DISCOVERY:
        return False
    if job.status == "finished":
        return job.finished_at < model.now - REDISCOVERY
    return job.status in ("failed", "cancelled")


def _queue_again(model: Model, job: Job, order: dict[str, Any]) -> None:
    """
    Queue the job again, "with its counts reset and without its resume_state" (jobs.submit).

    `resume`: "keep its resume_state". Not in the contract: if the web app has ended the job during an attempt
    that is still live, that attempt is revoked.
    """
    model.reach(Reached.ORDER_FORCED, order.get("force"))
    model.reach(Reached.ORDER_REVOKES, job.live)
    job.revoke()
    job.requeue_ended(model.now, restart=not order.get("resume"))


def enqueue(model: Model, message: Message, _: Any) -> None:
    """jobs.enqueue: "Queues jobs that the web app inserted itself." Rejected: `own_command`."""
    if not model.mark_processed(message):
        return
    for id_ in dict.fromkeys(message.payload["job_ids"]):
        job = model.jobs.get(id_)
        if job and job.command == AUTHORIZATION_SCOPE:
            model.rejected["own_command"] += 1
        elif job:
            _enqueue(model, job)


def _enqueue(model: Model, job: Job) -> None:
    """
    Queue a job if it is `queued`.

    jobs.enqueue: "Jobs that are `queued` and have no entry get one, with priority 1. A job whose entry had
    ended is queued again with its counts reset; one whose entry was parked keeps its counts."
    """
    if job.status != "queued":
        return
    if job.entry is None:
        job.enqueue(model.now)
        model.reach(Reached.ENQUEUED)
    elif not job.entry.is_open:
        job.entry.reset(model.now)
        model.reach(Reached.RESET)
    elif job.entry.parked:
        job.entry.unpark()


def cancel(model: Model, message: Message, _: Any) -> None:
    """
    Cancel jobs.

    jobs.cancel: "Ends jobs that have not ended." "The job becomes `cancelled`, its entry `failed` …, a live
    attempt `cancelled`".
    """
    for job in _selected(model, message):
        if job.status not in ENDED:
            model.reach(Reached.CANCELLED_LIVE, job.live)
            job.revoke()
            if job.entry:
                job.entry.end(model.now)
            job.status, job.finished_at = "cancelled", model.now


def pause(model: Model, message: Message, _: Any) -> None:
    """
    Pause jobs, or an account.

    jobs.pause: "Queued and running jobs become `paused`, and their entries are parked … A live attempt ends as
    `cancelled`". "Jobs in any other status are left as they are."
    """
    if "account_id" in message.payload:
        if model.mark_processed(message):
            _pause_account(model, message.payload["account_id"])
        return
    for job in _selected(model, message):
        if job.status in TO_BE_CRAWLED:
            model.reach(Reached.PAUSED_LIVE, job.live)
            job.revoke()
            if job.entry:
                job.entry.park(model.now)
            job.status = "paused"


def _pause_account(model: Model, account_id: str) -> None:
    """
    Pause an account.

    jobs.pause: "Its live attempts are revoked and their jobs are `queued` again; waiting jobs are not touched
    and remain `queued`." A status that the web app has written meanwhile stands.
    """
    account = model.accounts.get(account_id)
    if account is None:
        model.rejected["unknown_account"] += 1
        return
    account.paused = True
    for job in model.jobs.values():
        if job.account is account and job.live:
            model.reach(Reached.ACCOUNT_PAUSED_LIVE)
            job.revoke()
            if job.status in TO_BE_CRAWLED:
                job.entry.unpark()
                job.set_status("queued", model.now)
            else:
                job.sync_entry(model.now)


def resume(model: Model, message: Message, _: Any) -> None:
    """
    Resume jobs, or an account.

    jobs.resume: "Jobs that are `paused`, by `jobs.pause` or by the web app itself, become `queued`. Their
    entries are unparked and keep their counts and due times. A job whose attempt the web app's pause has not
    closed yet keeps that attempt." Of an account: "Its jobs that were paused one by one … stay paused".
    """
    if "account_id" in message.payload:
        if model.mark_processed(message) and (account := model.accounts.get(message.payload["account_id"])):
            account.paused = False
        return
    for job in _selected(model, message):
        if job.status == "paused":
            model.reach(Reached.RESUMED)
            model.reach(Reached.RESUMED_LIVE, job.live)
            job.status = "queued"
            _enqueue(model, job)


def retry(model: Model, message: Message, _: Any) -> None:
    """
    Queue failed jobs again.

    jobs.retry: "Jobs that are `failed` become `queued`, due at once, with attempts, losses and disconnects
    reset to 0, and continue from their `resume_state`." Not in the contract: if the web app has failed the job
    during an attempt that is still live, that attempt is revoked.
    """
    for job in _selected(model, message):
        if job.status == "failed":
            model.reach(Reached.RETRIED)
            job.revoke()
            job.requeue_ended(model.now, restart=False)


def prioritize(model: Model, message: Message, _: Any) -> None:
    """jobs.prioritize: "Entries that have not ended get it, including those of paused and running jobs"."""
    for job in _selected(model, message):
        if job.entry and job.entry.is_open:
            job.entry.priority = message.payload["priority"]


def _selected(model: Model, message: Message) -> list[Job]:
    """
    Return the jobs of a command's selection, the first time that the message comes.

    jobs.cancel: "Unknown ids are ignored; authorizationScope jobs are never touched".
    """
    if not model.mark_processed(message):
        return []
    if account_id := message.payload.get("account_id"):
        return [job for job in model.dispatchable if job.account.id == account_id]
    ids = message.payload["job_ids"]
    return [job for job in model.dispatchable if job.id in ids]


def renewed(model: Model, message: Message, _: Any) -> None:
    """credentials.renewed: "The web app has written new tokens." Rejected: `unknown_account`."""
    if not model.mark_processed(message):
        return
    if message.payload["account_id"] in model.accounts:
        _unblock(model, message.payload["account_id"])
    else:
        model.rejected["unknown_account"] += 1


def refresh(model: Model, message: Message, _: Any) -> None:
    """
    Handle a blocked account without a GitLab that could refresh its token.

    Tokens that died: the event credential_needed "asks the web app"; "a blocked account is unblocked by the
    first token that differs from the one it had then". credentials.refresh: "An account that no job waits for
    is unblocked without a call."
    """
    account = model.accounts.get(message.payload["account_id"])
    if account is None or account.blocked_for is None:
        return
    if account.blocked_for != account.token:
        _unblock(model, account.id)
    elif (
        any(job.account is account and _needs_token(job) for job in model.jobs.values())
        or account.authorization_requested
    ):
        account.authorization_requested = True
    else:
        account.blocked_for = None


def _needs_token(job: Job) -> bool:
    """Return True if the job waits for its account, in the queue or parked for want of a token."""
    entry = job.entry
    if entry is None:
        return False
    is_waiting = entry.status == "pending" and not entry.parked
    return is_waiting or (entry.parked and job.status in ("waiting_credential_renewal", "credential_expired"))


def _unblock(model: Model, account_id: str) -> None:
    """
    Unblock an account.

    credentials.renewed: "The account is unblocked, and its jobs that are `waiting_credential_renewal`,
    `credential_expired` or `credential_renewed` are `queued` again". Not in the contract: a job whose entry is
    not parked, since the web app alone wrote that status, is left to upkeep.reconcile.
    """
    account = model.accounts[account_id]
    for job in model.jobs.values():
        if job.account is account and job.entry and job.entry.parked and job.status in WAITING_FOR_TOKEN:
            job.status = "queued"
            job.entry.unpark()
            model.reach(Reached.TOKEN_RENEWED)
    account.blocked_for, account.authorization_requested, account.renewed_at = None, False, model.now


def log_failures(model: Model, message: Message, _: Any) -> None:
    """failures.log: "Records errors that others met; nothing else changes." Rejected: `unknown_job`."""
    if not model.mark_processed(message):
        return
    for error in message.payload["errors"]:
        attempt = model.attempts.get(error.get("crawler_job_id"))
        job = attempt.job if attempt else model.jobs.get(error.get("job_id"))
        if job:
            job.errors[error["error_type"]] += 1
        else:
            model.rejected["unknown_job"] += 1
