"""What the web app wants, in the model: orders, control, tokens, and its own word in `job.status`."""

from typing import Any

from proofs.model.machine.clock import REDISCOVERY
from proofs.model.machine.reached import Reached
from proofs.model.model import Message, Model
from proofs.model.state import DISCOVERY, ENDED, SCOPE, TO_BE_CRAWLED, WAITING, Entry, Job


def submit(model: Model, message: Message, _: Any) -> None:
    """Orders create their jobs; one whose job is there is answered with it, and queues it again if asked to."""
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
            _answer(model, job, order)


def _create(model: Model, order: dict[str, Any]) -> None:
    job = Job(
        order["web_app_job_id"],
        model.accounts[order["account_id"]],
        order["command"],
        order["namespace_path"],
    )
    job.entry = Entry((model.now, model.now), priority=order.get("priority", 1))
    model.jobs[job.id] = job


def _answer(model: Model, job: Job, order: dict[str, Any]) -> None:
    model.reach(Reached.ORDER_ANSWERED)
    if order.get("force"):
        is_meant = job.status not in TO_BE_CRAWLED
    else:
        is_old = job.status == "finished" and (
            job.finished_at is None or job.finished_at < model.now - REDISCOVERY
        )
        is_meant = order["command"] == DISCOVERY and (
            job.status in ("failed", "cancelled") or (job.command == DISCOVERY and is_old)
        )
    if is_meant:
        model.reach(Reached.ORDER_FORCED, order.get("force"))
        model.reach(Reached.ORDER_REVOKES, job.live)
        job.revoke()
        job.requeue_ended(model.now, restart=not order.get("resume"))


def enqueue(model: Model, message: Message, _: Any) -> None:
    """Queue jobs that the web app inserted, or queued again."""
    if not model.mark_processed(message):
        return
    for id_ in dict.fromkeys(message.payload["job_ids"]):
        job = model.jobs.get(id_)
        if job and job.command == SCOPE:
            model.rejected["own_command"] += 1
        elif job:
            _enqueue(model, job)


def _enqueue(model: Model, job: Job) -> None:
    """Those that are queued, and have no entry that can run."""
    if job.status != "queued":
        return
    if job.entry is None:
        job.enqueue(model.now)
        model.reach(Reached.ENQUEUED)
    elif not job.entry.is_open:
        job.entry.reset(model.now)
        model.reach(Reached.RESET)
    elif job.entry.held:
        job.entry.unpark()


def cancel(model: Model, message: Message, _: Any) -> None:
    """End jobs, wherever they stand."""
    for job in _meant(model, message):
        if job.status not in ENDED:
            model.reach(Reached.CANCELLED_LIVE, job.live)
            job.revoke()
            if job.entry:
                job.entry.end(model.now)
            job.status, job.finished_at = "cancelled", model.now


def pause(model: Model, message: Message, _: Any) -> None:
    """Let jobs wait; an account by its lane, and its running attempts end."""
    if "account_id" in message.payload:
        if model.mark_processed(message):
            _pause_account(model, message.payload["account_id"])
        return
    for job in _meant(model, message):
        if job.status in TO_BE_CRAWLED:
            model.reach(Reached.PAUSED_LIVE, job.live)
            job.revoke()
            if job.entry:
                job.entry.park(model.now)
            job.status = "paused"


def _pause_account(model: Model, account_id: str) -> None:
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
    """Let jobs go on, with what was counted; of an account those that were not paused one by one."""
    if "account_id" in message.payload:
        if model.mark_processed(message) and (account := model.accounts.get(message.payload["account_id"])):
            account.paused = False
        return
    for job in _meant(model, message):
        if job.status == "paused":
            model.reach(Reached.RESUMED)
            model.reach(Reached.RESUMED_LIVE, job.live)
            job.status = "queued"
            _enqueue(model, job)


def retry(model: Model, message: Message, _: Any) -> None:
    """Queue failed jobs again, from where they were, with nothing counted."""
    for job in _meant(model, message):
        if job.status == "failed":
            model.reach(Reached.RETRIED)
            job.revoke()
            job.requeue_ended(model.now, restart=False)


def prioritize(model: Model, message: Message, _: Any) -> None:
    """Give entries that have not ended another priority."""
    for job in _meant(model, message):
        if job.entry and job.entry.is_open:
            job.entry.priority = message.payload["priority"]


def _meant(model: Model, message: Message) -> list[Job]:
    """The jobs of a command's selection, if it is the first time; the web app's own are never meant."""
    if not model.mark_processed(message):
        return []
    if account_id := message.payload.get("account_id"):
        return [job for job in model.dispatchable if job.account.id == account_id]
    ids = message.payload["job_ids"]
    return [job for job in model.dispatchable if job.id in ids]


def renewed(model: Model, message: Message, _: Any) -> None:
    """The web app has written new tokens: what waits for them is queued."""
    if not model.mark_processed(message):
        return
    if message.payload["account_id"] in model.accounts:
        _let_go(model, message.payload["account_id"])
    else:
        model.rejected["unknown_account"] += 1


def refresh(model: Model, message: Message, _: Any) -> None:
    """Nobody here can refresh a token: the web app is asked, unless nothing waits, or it has written one."""
    account = model.accounts.get(message.payload["account_id"])
    if account is None or account.blocked_for is None:
        return
    if account.blocked_for != account.token:
        _let_go(model, account.id)
    elif (
        any(job.account is account and _needs_token(job) for job in model.jobs.values())
        or account.authorization_requested
    ):
        account.authorization_requested = True
    else:
        account.blocked_for = None


def _needs_token(job: Job) -> bool:
    entry = job.entry
    if entry is None:
        return False
    is_due = entry.status == "pending" and not entry.held
    return is_due or (entry.held and job.status in ("waiting_credential_renewal", "credential_expired"))


def _let_go(model: Model, account_id: str) -> None:
    account = model.accounts[account_id]
    for job in model.jobs.values():
        if job.account is account and job.entry and job.entry.held and job.status in WAITING:
            job.status = "queued"
            job.entry.unpark()
            model.reach(Reached.TOKEN_RENEWED)
    account.blocked_for, account.authorization_requested, account.renewed_at = None, False, model.now


def log_failures(model: Model, message: Message, _: Any) -> None:
    """Put errors on record; nothing else changes."""
    if not model.mark_processed(message):
        return
    for error in message.payload["errors"]:
        attempt = model.attempts.get(error.get("crawler_job_id"))
        job = attempt.job if attempt else model.jobs.get(error.get("job_id"))
        if job:
            job.errors[error["error_type"]] += 1
        else:
            model.rejected["unknown_job"] += 1
