"""A matchmaking pass, in the model: who was seated is read from what the pass did, and checked."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from proofs.model.machine.reached import Reached
from proofs.model.model import Message, Model
from proofs.model.state import Attempt, Connection, Job


def check_round(model: Model, _: Message, seen: Any) -> None:
    """Check that the pass did what it was allowed to, and all that it could; adopt it."""
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
    """Seats and jobs of one pass."""

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
        """One job was seated."""
        assert job in self.waiting, f"{job.id} was seated, and did not wait"
        assert self.free.get(connection.id, 0) > 0, f"{connection.id} was given more than it has seats for"
        assert not job.entry.is_suspect or connection.id in self.empty, "a suspect was not seated alone"
        self.waiting.remove(job)
        self.assigned.append((job, connection))
        self.empty.discard(connection.id)
        self.free[connection.id] = 0 if job.entry.is_suspect else self.free[connection.id] - 1

    def check_nothing_was_left_out(self) -> None:
        """No seat stays free while a job waits, but one that is kept for a suspect."""
        suspects = [job for job in self.waiting if job.entry.is_suspect]
        others = [job for job in self.waiting if not job.entry.is_suspect]
        if others:
            room = [id_ for id_, seats in self.free.items() if seats]
            assert len(room) <= bool(suspects), f"{len(others)} jobs wait, and there is room on {room}"
        elif suspects:
            assert not self.empty, f"a suspect waits, and {self.empty} have nothing to do"
        self._check_priority(others)

    def _check_priority(self, others: list[Job]) -> None:
        """Within an account nobody waits behind a lower priority."""
        lowest: dict[str, int] = {}
        for job, _ in self.assigned:
            if not job.entry.is_suspect:
                id_, priority = job.account.id, job.entry.priority
                lowest[id_] = min(lowest.get(id_, priority), priority)
        highest = Counter[str]()
        for job in others:
            highest[job.account.id] = max(highest[job.account.id], job.entry.priority)
        for id_ in lowest.keys() & highest.keys():
            assert highest[id_] <= lowest[id_], f"a job of {id_} waits behind one of lower priority"
