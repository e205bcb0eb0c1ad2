"""Upkeep, in the model: the web app's word wins, and what is old goes."""

from typing import Any

from proofs.model.machine.clock import KEEP_JOBS
from proofs.model.machine.reached import Reached
from proofs.model.model import Message, Model
from proofs.model.state import ENDED, TO_BE_CRAWLED, Job


def reconcile(model: Model, _: Message, __: Any) -> None:
    """Entry and attempt of each job say what the job says."""
    for job in model.dispatchable:
        if job.status == "credential_renewed":
            job.status = "queued"
        if job.status in TO_BE_CRAWLED:
            _let_run(model, job)
        elif job.live or (job.entry and job.entry.is_open):
            model.reach(Reached.RECONCILE_REVOKED, job.live)
            job.revoke()
            job.sync_entry(model.now)


def _let_run(model: Model, job: Job) -> None:
    """It has a live attempt, or an entry that can run."""
    if job.live:
        job.entry.status, job.entry.held = "processing", False
        return
    if job.entry is None or not job.entry.is_open:
        job.enqueue(model.now)
        model.reach(Reached.RECONCILE_QUEUED)
    else:
        job.entry.unpark()
    job.status = "queued"


def clean_up(model: Model, _: Message, __: Any) -> None:
    """Delete jobs that ended long ago and left nothing behind that is kept; look at the others later."""
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
