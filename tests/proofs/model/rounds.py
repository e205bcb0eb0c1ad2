"""The task `jobs.assign`: the model reads which jobs a round assigned, and checks that it was allowed to."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from proofs.model.model import Message, Model
from proofs.model.reached import Reached
from proofs.model.state import Attempt, Connection, Job


def check_round(model: Model, _: Message, seen: Any) -> None:
    """
    Check that the round assigned only what it may, and all that it can; adopt what it assigned.

    Not in the contract: a round that has free slots also ends or parks the due entries of jobs that the web app
    has ended or paused, before upkeep.reconcile does.
    """
    claimable = [job for job in model.dispatchable if job.is_claimable and model.is_due(job)]
    slots = _Slots.of(model, [job for job in claimable if job.status == "queued"])
    for fence, job_id, connection_id in seen.new_attempts(model.attempts):
        slots.take(model.jobs[job_id], model.connections[connection_id])
        _record(model, fence, model.jobs[job_id], model.connections[connection_id])
    for job in claimable:
        if job.status != "queued" and slots.had_room and seen.was_settled(job.id):
            model.reach(Reached.ROUND_SETTLED)
            job.sync_entry(model.now)
    slots.check_nothing_was_left_out()
    model.reach(Reached.ROUND_FULL, slots.waiting)


def _record(model: Model, fence: str, job: Job, connection: Connection) -> None:
    attempt = Attempt(fence, job, connection, model.now)
    model.attempts[fence] = attempt
    job.attempts.append(attempt)
    connection.live.append(attempt)
    job.entry.status, job.entry.settled_at = "processing", None
    model.reach(Reached.ASSIGNED)
    model.reach(Reached.SUSPECT_ALONE, job.entry.is_suspect)


@dataclass
class _Slots:
    """Free slots and waiting jobs of one round."""

    waiting: list[Job]
    free: dict[str, int]
    empty: set[str]
    had_room: bool
    assigned: "list[tuple[Job, Connection]]"

    @classmethod
    def of(cls, model: Model, waiting: list[Job]) -> "_Slots":
        free = {c.id: c.free for c in model.active if c.free}
        empty = {c.id for c in model.active if c.id in free and not c.used}
        return cls(waiting, free, empty, bool(free), [])

    def take(self, job: Job, connection: Connection) -> None:
        """Take a slot for a job; connections.heartbeat states how many are free."""
        assert job in self.waiting, f"{job.id} was assigned, and did not wait"
        assert self.free.get(connection.id, 0) > 0, f"{connection.id} got more jobs than it had free slots"
        assert not job.entry.is_suspect or connection.id in self.empty, "a suspect was not assigned alone"
        self.waiting.remove(job)
        self.assigned.append((job, connection))
        self.empty.discard(connection.id)
        self.free[connection.id] = 0 if job.entry.is_suspect else self.free[connection.id] - 1

    def check_nothing_was_left_out(self) -> None:
        """
        Check that no slot is free while a job waits.

        Not in the contract: one connection may stay empty for a suspect.
        """
        suspects = [job for job in self.waiting if job.entry.is_suspect]
        others = [job for job in self.waiting if not job.entry.is_suspect]
        if others:
            room = [id_ for id_, slots in self.free.items() if slots]
            assert len(room) <= bool(suspects), f"{len(others)} jobs wait, and {room} have free slots"
        elif suspects:
            assert not self.empty, f"a suspect waits, and {self.empty} have no jobs"
        self._check_priority(others)

    def _check_priority(self, others: list[Job]) -> None:
        """jobs.submit: priority is "higher first, within its account"."""
        lowest: dict[str, int] = {}
        for job, _ in self.assigned:
            if not job.entry.is_suspect:
                id_, priority = job.account.id, job.entry.priority
                lowest[id_] = min(lowest.get(id_, priority), priority)
        highest = Counter[str]()
        for job in others:
            highest[job.account.id] = max(highest[job.account.id], job.entry.priority)
        for id_ in lowest.keys() & highest.keys():
            assert highest[id_] <= lowest[id_], (
                f"a job of {id_} waits while one of lower priority was assigned"
            )
