"""Actions of time and of beat: rounds, sweeps, maintenance."""

from hypothesis import strategies as st

from proofs.model.machine.actions import action
from proofs.model.machine.crawlers import PICK
from proofs.model.machine.delivery import DeliveryMachine

FAR_AHEAD = -1000
"""Ticks ago: so far in the future that it still is when a slow machine reads it."""


class Routine(DeliveryMachine):
    """The periodic tasks, and the passing of time."""

    @action(weight=6)
    def assign(self) -> None:
        """Run an assignment round."""
        self.send("jobs.assign")

    @action(weight=5, ago=st.sampled_from([0, 0, 0, 1, 2, 3, FAR_AHEAD]))
    def sweep(self, ago: int) -> None:
        """Sweep as of now, of some time ago, or, wrongly, of the future."""
        self.model.step()
        as_of = self.system.as_of(ago)
        self.send("connections.expire_dead", as_of=as_of, judged_as_of=self.model.now - ago)

    @action(weight=4)
    def reconcile(self) -> None:
        """Reconcile."""
        self.send("upkeep.reconcile")

    @action(weight=3, ticks=st.sampled_from([1, 1, 2, 4, 5]), is_swept=st.booleans())
    def advance_time(self, ticks: int, *, is_swept: bool) -> None:
        """Let time pass while all crawlers send heartbeats, the last one just now; then sweep, or do not."""
        self.age(ticks, swept=True)
        if active := self.model.active:
            self.send("connections.heartbeat", beats=[{"connection_id": c.id} for c in active])
        if is_swept:
            self.sweep(0)

    @action(weight=2, ticks=st.integers(1, 3), ago=st.sampled_from([None, 0, 1, 2]))
    def advance_without_heartbeats(self, ticks: int, ago: int | None) -> None:
        """Let time pass without heartbeats; then sweep as of some time ago, or do not."""
        self.age(ticks, swept=True)
        if ago is not None:
            self.sweep(ago)

    @action(weight=1, ticks=st.integers(1, 3))
    def advance_without_sweeps(self, ticks: int) -> None:
        """Let time pass in an outage of Crawlyard."""
        self.age(ticks, swept=False)

    @action(weight=2, needs=lambda self: self.model.jobs, picks=st.lists(PICK, min_size=1, max_size=4))
    def clean_up(self, picks: list[int]) -> None:
        """Let some jobs have ended long ago, and clean up."""
        for job in {
            self.job(pick, lambda job: job.entry and job.entry.settled_at is not None) for pick in picks
        }:
            if job.entry and job.entry.settled_at is not None:
                job.entry.settled_at -= 11
                self.system.shift("job_queue", ("settled_at", "kept_at"), "web_app_job_id", job.id, 11)
        self.send("upkeep.clean_up")
