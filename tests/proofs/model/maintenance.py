"""The tasks `upkeep.reconcile` and `upkeep.clean_up`."""

from typing import Any

from proofs.model.clock import KEEP_JOBS
from proofs.model.model import Message, Model
from proofs.model.reached import Reached
from proofs.model.state import ENDED, TO_BE_CRAWLED, Job


def reconcile(model: Model, _: Message, __: Any) -> None:
    """
    Let entry and attempt follow job.status.

    upkeep.reconcile: "Compares job.status with entry and attempt; the web app's status wins."
    credentials.renewed: "It also queues single jobs that the web app sets to `credential_renewed`."
    """
    for job in model.dispatchable:
        if job.status == "credential_renewed":
            job.status = "queued"
        if job.status in TO_BE_CRAWLED:
            _make_runnable(model, job)
        elif job.live or (job.entry and job.entry.is_open):
            model.reach(Reached.RECONCILE_REVOKED, job.live)
            job.revoke()
            job.sync_entry(model.now)


def _make_runnable(model: Model, job: Job) -> None:
    """
    Give the job a live attempt's entry, or an entry that a round can assign.

    upkeep.reconcile: "Queued and running jobs without an entry are queued"; parked entries stay so only "until
    the job is `queued` again".
    """
    if job.live:
        job.entry.status, job.entry.parked = "processing", False
        return
    if job.entry is None or not job.entry.is_open:
        job.enqueue(model.now)
        model.reach(Reached.RECONCILE_QUEUED)
    else:
        job.entry.unpark()
    job.status = "queued"


def clean_up(model: Model, _: Message, __: Any) -> None:
    """
    Delete jobs that ended longer than CRAWLYARD_KEEP_JOBS ago, by `job_queue.settled_at`.

    upkeep.clean_up: "A job stays if it is not `finished`, `failed` or `cancelled`; if it has a live attempt,
    an error row that is still kept, or a child that is waiting, running or deferred". "It is checked again one
    CRAWLYARD_KEEP_JOBS later." "Jobs without a queue entry are never deleted."
    """
    old = [
        j for j in model.dispatchable if _settled_at(j) is not None and _settled_at(j) < model.now - KEEP_JOBS
    ]
    open_children = {j.parent for j in model.dispatchable if j.parent and j.entry and j.entry.is_open}
    for job in old:
        if job.status not in ENDED or job.live or job.id in open_children or job.errors:
            job.entry.settled_at = model.now
            model.reach(Reached.KEPT)
        else:
            model.delete(job)
            model.reach(Reached.DELETED)


def _settled_at(job: Job) -> float | None:
    return job.entry.settled_at if job.entry else None
