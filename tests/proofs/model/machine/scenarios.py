"""Sequences that rarely arise by chance, each in one action: deaths, and changes that overlap."""

from typing import Any

from hypothesis import strategies as st

from proofs.model.discoveries import GROUP_COMMANDS, is_in_scope
from proofs.model.machine.actions import action
from proofs.model.machine.crawlers import NOW, PICK, discovery_of
from proofs.model.machine.fleet import Fleet
from proofs.model.machine.routine import Routine
from proofs.model.machine.web_app import WebApp
from proofs.model.state import ENDED, Attempt
from proofs.model.sweeps import MIN_FLEET_FOR_MASS_SILENCE

_SILENCE = 3
"""Ticks: longer than the timeout of connections."""

_COUNTS = (
    *((4, 0, 0, "silence"), (2, 1, 1, "silence"), (4, 0, 0, "job_progress"), (2, 0, 1, "nothing")),
    *((0, 20, 0, "disconnect"), (1, 1, 0, "disconnect"), (0, 0, 2, "job_failed"), (3, 0, 1, "job_failed")),
)
"""Losses, disconnects and attempts of a job, and what happens next."""

_OVERLAPPING = (
    *(("paused", "resume"), ("paused", "job_completed"), ("paused", "silence"), ("paused", "reconcile")),
    *(("failed", "retry"), ("failed", "order"), ("failed", "job_completed"), ("failed", "reconcile")),
    *(("cancelled", "order"), ("cancelled", "reconcile"), ("cancelled", "silence")),
    *(("finished", "job_failed"), ("finished", "reconcile"), ("queued", "job_completed")),
)
"""A status that the web app writes, and what happens before reconcile runs."""


def is_group(path: str | None) -> bool:
    """Return True if it is the path of a group that crawlers discover."""
    return path is not None and path.startswith("group-")


class Scenarios(WebApp, Fleet, Routine):
    """Short sequences; other actions may happen between any two of them."""

    @action(weight=4, needs=lambda self: self.model.active, pick=PICK, swept=st.booleans())
    def silence_connection(self, pick: int, *, swept: bool) -> None:
        """Let a crawler die, mostly one with jobs; then sweep, or do not."""
        connection = self.connection(pick, like=lambda c: c.live)
        connection.heartbeat_at -= _SILENCE
        self.system.shift("socket_connection", ("last_heartbeat",), "id", connection.id, _SILENCE)
        self.compare()
        if swept:
            self.sweep(0)

    @action(weight=2, needs=lambda self: self.model.live, pick=PICK)
    def omit_jobs_from_list(self, pick: int) -> None:
        """Let a crawler list none of its jobs, repeatedly, while sweeps run."""
        connection = self.connection(pick, like=lambda c: c.live)
        for ticks in (2, 0):
            self.send("connections.heartbeat", beats=[{"connection_id": connection.id, "active_jobs": []}])
            self.sweep(0)
            if ticks:
                self.advance_time(ticks, is_swept=False)

    @action(weight=3, needs=lambda self: len(self.model.active) > 1, pick=PICK)
    def silence_most_connections(self, pick: int) -> None:
        """Let a large fleet get jobs and its gateway die, while sweeps run."""
        for _ in range(len(self.model.active), MIN_FLEET_FOR_MASS_SILENCE):
            self.register_crawler(1)
        self.assign()
        self.advance_without_heartbeats(_SILENCE, 0)
        self.advance_without_heartbeats(_SILENCE, None)
        if pick % 4:
            self.register_crawler(1)
        self.sweep(0)

    @action(
        weight=5,
        needs=lambda self: self.model.live,
        pick=PICK,
        counts=st.sampled_from(_COUNTS),
    )
    def set_counts(self, pick: int, counts: tuple[int, int, int, str]) -> None:
        """Give a job of a live attempt counts that a run is too short to reach; then continue."""
        attempt, (losses, disconnects, attempts, then) = self.pick_live_attempt(pick), counts
        entry = attempt.job.entry
        entry.losses, entry.disconnects, entry.attempts = losses, disconnects, attempts
        self.system.write(
            "UPDATE job_queue SET losses = %s, goodbyes = %s, attempts = %s WHERE web_app_job_id = %s",
            *(losses, disconnects, attempts, attempt.job.id),
        )
        self.compare()
        if then == "disconnect":
            self.send("connections.disconnect", connection_id=attempt.connection.id)
            self.advance_time(1, is_swept=True)
        elif then == "silence":
            self.advance_without_heartbeats(_SILENCE, 0)
        elif then != "nothing":
            self.send_frame_of(attempt, then)

    @action(
        weight=5,
        needs=lambda self: self.model.live,
        pick=PICK,
        change=st.sampled_from(_OVERLAPPING),
    )
    def change_status_during_attempt(self, pick: int, change: tuple[str, str]) -> None:
        """Write the status of a job with a live attempt; then something else happens before reconcile runs."""
        attempt, (status, then) = self.pick_live_attempt(pick), change
        self.set_job_status(attempt.job, status)
        match then:
            case "order":
                self.submit_orders([2], 1)
            case "resume" | "retry":
                self.send(f"jobs.{then}", job_ids=[attempt.job.id])
            case "reconcile":
                self.reconcile()
            case "silence":
                self.advance_without_heartbeats(_SILENCE, 0)
            case _:
                self.send_frame_of(attempt, then)

    @action(weight=3, needs=lambda self: self.model.live, pick=PICK)
    def discover_after_completion(self, pick: int) -> None:
        """Let an attempt's end overtake its discovery, which is sent twice."""
        attempt = self.pick_discovering_attempt(pick, "group-0")
        self.send_frame_of(attempt, "job_completed")
        for _ in range(2):
            self.send_discovery(attempt, attempt.job.path if is_group(attempt.job.path) else "group-0")

    @action(weight=3, needs=lambda self: len(self.model.live) > 1, pick=PICK)
    def discover_failed_job(self, pick: int) -> None:
        """Let a group's own job fail permanently; then discover the group, again or for the first time."""
        groups = [
            a
            for a in self.model.live
            if a.job.command in GROUP_COMMANDS and a.job.path in ("group-0", "group-1")
        ]
        attempt = groups[pick % len(groups)] if groups else self.pick_live_attempt(pick)
        self.send_frame_of(attempt, "job_failed", isRecoverable=False)
        if self.model.live:
            path = str(attempt.job.path) if groups else "group-1"
            self.send_discovery(self.pick_discovering_attempt(pick, path), path)

    @action(weight=2, needs=lambda self: any(j.status in ENDED for j in self.model.jobs.values()), pick=PICK)
    def queue_ended_job(self, pick: int) -> None:
        """Set a job that has ended to `queued`, and enqueue it or not."""
        ended = [job for job in self.model.jobs.values() if job.status in ENDED]
        job = self.focus = ended[pick % len(ended)]
        self.set_job_status(job, "queued")
        if pick % 4:
            self.send("jobs.enqueue", job_ids=[job.id])

    @action(weight=2, needs=lambda self: self.model.live, pick=PICK)
    def report_replaced_token(self, pick: int) -> None:
        """Renew an account's token before a crawler reports that the old one died."""
        attempt = self.pick_live_attempt(pick)
        self.send("credentials.renewed", account_id=attempt.job.account.id)
        self.send_frame_of(attempt, "token_refresh_request")

    @action(weight=2, needs=lambda self: self.model.live, pick=PICK)
    def pause_account(self, pick: int) -> None:
        """Pause an account with live attempts; resume it soon, or do not."""
        account_id = self.pick_live_attempt(pick).job.account.id
        self.send("jobs.pause", account_id=account_id)
        self.assign()
        if pick % 4:
            self.send("jobs.resume", account_id=account_id)

    def pick_live_attempt(self, pick: int) -> Attempt:
        """Return a live attempt, and put its job in focus."""
        live = self.model.live
        attempt = live[pick % len(live)]
        self.focus = attempt.job
        return attempt

    def pick_discovering_attempt(self, pick: int, path: str) -> Attempt:
        """Return a live attempt that may discover the group, or any group, or else any attempt."""
        live = self.model.live
        able = [a for a in live if is_in_scope(a.job, path)]
        able = able or [a for a in live if is_group(a.job.path) and is_in_scope(a.job, str(a.job.path))]
        if not able:
            return self.pick_live_attempt(pick)
        self.focus = able[pick % len(able)].job
        return able[pick % len(able)]

    def send_discovery(self, attempt: Attempt, path: str) -> None:
        """Send a discovery of a group."""
        self.send_frame_of(attempt, "discovery", **discovery_of(path))

    def send_frame_of(self, attempt: Attempt, kind: str, **data: Any) -> None:
        """Send a frame of the attempt."""
        defaults = {
            "job_progress": {"stage": "fetching", "entityType": "issue", "processed": 9},
            "job_failed": {"error": "it broke", "isRecoverable": True},
        }.get(kind, {})
        frame = {"type": kind, "timestamp": NOW, "jobId": attempt.fence, "data": defaults | data}
        self.send("crawler.frames", frames=[{"connection_id": attempt.connection.id, "frame": frame}])
