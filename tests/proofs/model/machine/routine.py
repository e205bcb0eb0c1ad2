"""What the product does by itself, as time passes: passes, sweeps, upkeep."""

from hypothesis import strategies as st

from proofs.model.machine.actions import action
from proofs.model.machine.crawlers import PICK
from proofs.model.machine.delivery import DeliveryMachine

FAR_AHEAD = -1000
"""Ticks ago: so far in the future that it is so still when a slow machine comes to it."""


class Routine(DeliveryMachine):
    """Beat, and time."""

    @action(weight=6)
    def assign(self) -> None:
        """A pass."""
        self.send("jobs.assign")

    @action(weight=5, ago=st.sampled_from([0, 0, 0, 1, 2, 3, FAR_AHEAD]))
    def sweep(self, ago: int) -> None:
        """A sweep, as of now or of some time ago; or, wrongly, of the future."""
        self.model.step()
        as_of = self.system.as_of(ago)
        self.send("connections.expire_dead", as_of=as_of, judged_as_of=self.model.now - ago)

    @action(weight=4)
    def reconcile(self) -> None:
        """The web app's word wins."""
        self.send("upkeep.reconcile")

    @action(weight=3, ticks=st.sampled_from([1, 1, 2, 4, 5]), is_swept=st.booleans())
    def advance_time(self, ticks: int, *, is_swept: bool) -> None:
        """All crawlers beat meanwhile, and the last time just now; then a sweep comes, or does not yet."""
        self.age(ticks, swept=True)
        if active := self.model.active:
            self.send("connections.heartbeat", beats=[{"connection_id": c.id} for c in active])
        if is_swept:
            self.sweep(0)

    @action(weight=2, ticks=st.integers(1, 3), ago=st.sampled_from([None, 0, 1, 2]))
    def advance_without_heartbeats(self, ticks: int, ago: int | None) -> None:
        """Time passes in silence; a sweep comes as of some time ago, or none does yet."""
        self.age(ticks, swept=True)
        if ago is not None:
            self.sweep(ago)

    @action(weight=1, ticks=st.integers(1, 3))
    def advance_without_sweeps(self, ticks: int) -> None:
        """An outage of ours."""
        self.age(ticks, swept=False)

    @action(weight=2, needs=lambda self: self.model.jobs, picks=st.lists(PICK, min_size=1, max_size=4))
    def clean_up(self, picks: list[int]) -> None:
        """Some jobs ended long ago."""
        for job in {
            self.job(pick, lambda job: job.entry and job.entry.settled_at is not None) for pick in picks
        }:
            if job.entry and job.entry.settled_at is not None:
                job.entry.settled_at -= 11
                self.system.shift("job_queue", ("settled_at", "kept_at"), "web_app_job_id", job.id, 11)
        self.send("upkeep.clean_up")
