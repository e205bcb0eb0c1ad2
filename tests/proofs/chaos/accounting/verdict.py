"""
The verdict: what was ordered against what became of it.

No ordered job may be lost, no other job created, no job completed twice, and no job worked on by two live
attempts. Jobs that needed several attempts are recovered, which is good. Work on an attempt that was closed
is stale, which is expected: its frames must have changed nothing.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from console.simulator.order_log import OrderLog
from proofs.chaos.accounting.evidence import ENDED, Attempt, Evidence, Job, Rejected
from proofs.chaos.accounting.journal import Record, WorkPeriod
from proofs.chaos.accounting.silence import wrongly_expired

MAX_LOSSES = 5
MAX_DISCONNECTS = 20
_BY_THE_CONTRACT = ("connection_closed",)
"""A registration that was repeated and delayed until its connection had been closed."""


@dataclass
class Verdict:
    """The ids of what is wrong, and the counts of what is not."""

    ordered: int = 0
    discovered: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    recovered: int = 0
    """Jobs that ended after more than one attempt."""
    losses: Counter[str] = field(default_factory=Counter)
    stale_words: int = 0
    """Frames that did not pass the fence, correct repetitions included."""
    stale_work: int = 0
    """Work that overlapped with a later attempt, because its crawler did not know that it was revoked."""
    answered: int = 0
    """Messages that were rejected as the contract says, because their connection had been closed."""
    lost: list[str] = field(default_factory=list)
    completed_twice: list[str] = field(default_factory=list)
    worked_twice: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    stale_frames_applied: list[str] = field(default_factory=list)
    wrongly_failed: list[str] = field(default_factory=list)
    failed_by_losses: list[str] = field(default_factory=list)
    wrongly_expired: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)

    @property
    def faults(self) -> dict[str, list[str]]:
        """Everything that must be empty, by description."""
        return {
            "lost": self.lost,
            "completed twice": self.completed_twice,
            "worked on twice": self.worked_twice,
            "unexpected": self.unexpected,
            "changed by a stale frame": self.stale_frames_applied,
            "failed without a reason": self.wrongly_failed,
            "failed by losses without a dead crawler": self.failed_by_losses,
            "wrongly expired": self.wrongly_expired,
            "rejected": self.rejected,
        }

    @property
    def is_good(self) -> bool:
        """True if nothing is wrong."""
        return not any(self.faults.values())


def compute_verdict(
    evidence: Evidence, order_log: OrderLog, record: Record, excused: Sequence[tuple[float, float]] = ()
) -> Verdict:
    """
    Compare all three: what the database says, what was ordered, and what the crawlers did.

    *excused* are the times of the faults between gateways, servers and workers, in seconds since 1970.
    """
    by_job = evidence.attempts_by_job()
    by_status = Counter(job.status for job in evidence.jobs.values())
    wrongly_expired_ids = wrongly_expired(evidence.connections, record.accepted, record.answered, excused)
    return Verdict(
        ordered=len(order_log.ordered),
        discovered=len(order_log.discovered) if order_log.discovery else 0,
        finished=by_status["finished"],
        failed=by_status["failed"],
        cancelled=by_status["cancelled"],
        recovered=sum(
            len(by_job.get(job.id, [])) > 1 for job in evidence.jobs.values() if job.status in ENDED
        ),
        losses=Counter(str(attempt.error_type) for attempt in evidence.attempts if attempt.is_loss),
        stale_words=sum(attempt.stale_words for attempt in evidence.attempts),
        stale_work=len(_overlaps(evidence, record, stale=True)),
        answered=sum(message.reason in _BY_THE_CONTRACT for message in evidence.rejected),
        lost=_lost(evidence, order_log),
        completed_twice=[
            job_id
            for job_id, attempts in by_job.items()
            if sum(a.status == "completed" for a in attempts) > 1
        ],
        worked_twice=_overlaps(evidence, record, stale=False),
        unexpected=_unexpected(evidence, order_log),
        stale_frames_applied=sorted(
            a.fence
            for a in evidence.attempts
            if a.fence in record.stale and a.status not in ("failed", "cancelled")
        ),
        wrongly_failed=[
            job.id
            for job in evidence.jobs.values()
            if job.status == "failed" and not _may_have_failed(job, by_job.get(job.id, []))
        ],
        failed_by_losses=[
            job.id
            for job in evidence.jobs.values()
            if job.status == "failed"
            and job.losses >= MAX_LOSSES
            and any(a.connection_id in wrongly_expired_ids for a in by_job.get(job.id, []) if a.is_loss)
        ],
        wrongly_expired=sorted(wrongly_expired_ids),
        rejected=[
            _describe(message) for message in evidence.rejected if message.reason not in _BY_THE_CONTRACT
        ],
    )


def _lost(evidence: Evidence, order_log: OrderLog) -> list[str]:
    """Return jobs that were ordered or discovered, and are missing or have not ended."""
    found = {
        (job.path, job.command) for job in evidence.jobs.values() if job.spawned_from == order_log.discovery
    }
    missing = order_log.ordered - evidence.jobs.keys()
    unfound = order_log.discovered - found if order_log.discovery else set()
    still_open = {job.id for job in evidence.jobs.values() if job.status not in ENDED}
    return sorted(missing | still_open | {f"{command} of {path}" for path, command in unfound})


def _unexpected(evidence: Evidence, order_log: OrderLog) -> list[str]:
    """Return jobs that were neither ordered nor discovered, or that exist twice."""
    followed = [job for job in evidence.jobs.values() if job.id not in order_log.ordered]
    seen: Counter[tuple[str | None, str]] = Counter()
    unexpected = []
    for job in followed:
        what = (job.path, job.command)
        seen[what] += 1
        if job.spawned_from != order_log.discovery or what not in order_log.discovered or seen[what] > 1:
            unexpected.append(job.id)
    return sorted(unexpected)


def _may_have_failed(job: Job, attempts: Collection[Attempt]) -> bool:
    """Return True if the contract lets it fail: permanently, or after too many failures, losses or disconnects."""
    return (
        any(a.is_recoverable is False for a in attempts)
        or job.attempts >= job.max_attempts
        or job.losses >= MAX_LOSSES
        or job.goodbyes > MAX_DISCONNECTS
    )


def _overlaps(evidence: Evidence, record: Record, *, stale: bool) -> list[str]:
    """
    Return attempts that were worked on while a later one of the same job was.

    *stale*: those that were closed before the later one was assigned. The others were live at the same time.
    """
    work_periods: dict[str, list[WorkPeriod]] = {}
    for period in record.work_periods:
        work_periods.setdefault(period.fence, []).append(period)
    found = []
    for attempts in evidence.attempts_by_job().values():
        for n, earlier in enumerate(attempts):
            for later in attempts[n + 1 :]:
                if not _overlap(work_periods.get(earlier.fence, []), work_periods.get(later.fence, [])):
                    continue
                was_closed = earlier.closed is not None and earlier.closed <= later.assigned
                if was_closed == stale:
                    found.append(earlier.fence)
    return sorted(set(found))


def _overlap(some: Collection[WorkPeriod], others: Collection[WorkPeriod]) -> bool:
    return any(a.begun < b.ended and b.begun < a.ended for a in some for b in others)


def _describe(message: Rejected) -> str:
    return f"{message.task}: {message.reason}" + (f" ({message.detail[:200]})" if message.detail else "")
