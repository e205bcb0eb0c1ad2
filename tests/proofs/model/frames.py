"""What crawlers say, in the model: `crawler.frames`, and the words of connections."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from proofs.model.discoveries import discover, is_discovery, mark_of
from proofs.model.machine import clock
from proofs.model.machine.reached import Reached
from proofs.model.model import Message, Model
from proofs.model.state import Attempt, Connection

Frame = dict[str, Any]

MAX_ATTEMPTS = 3
DEFAULT_CAPACITY = 5
NONSENSE = "nonsense"
"""The type of a frame that is none."""

_TERMINAL = ("job_completed", "job_failed", "token_refresh_request")


@dataclass
class AttemptFrames:
    """What one connection says of one attempt in one message."""

    connection: str
    fence: str
    frames: list[Frame] = field(default_factory=list)
    discoveries: list[Frame] = field(default_factory=list)
    trailing: list[Frame] = field(default_factory=list)

    @property
    def end(self) -> Frame | None:
        """The word that ends the attempt."""
        last = self.frames[-1] if self.frames else None
        return last if last and last["type"] in _TERMINAL else None

    def add(self, frame: Frame) -> None:
        """One more; what is behind the end is late, but what a successful attempt had found."""
        if is_discovery(frame) and (self.end is None or _succeeds(self.end)):
            self.discoveries.append(frame)
        else:
            (self.trailing if self.end else self.frames).append(frame)


def apply_message(model: Model, message: Message, seen: Any) -> None:
    """Discoveries first, each by itself, also where the message was heard before; then all else, once."""
    received = [(item["connection_id"], item["frame"]) for item in message.payload["frames"]]
    valid = [(sender, frame) for sender, frame in received if frame["type"] != NONSENSE]
    attempts = _by_attempt(valid)
    if any(is_discovery(frame) for _, frame in valid):
        for sender, frame in valid:
            if (connection := model.connections.get(sender)) and connection.active:
                _apply_heartbeat(model, connection, frame)
        for a in attempts:
            for frame in a.discoveries:
                discover(model, a.connection, frame, seen)
    if not model.mark_processed(message):
        return
    _record_heartbeats(model, received)
    for sender, frame in valid:
        if (connection := model.connections.get(sender)) and connection.active:
            _apply_heartbeat(model, connection, frame)
    model.rejected["invalid"] += len(received) - len(valid)
    model.reach(Reached.NONSENSE, len(received) > len(valid))
    for a in attempts:
        _apply_attempt(model, a)


def apply_heartbeats(model: Model, message: Message, _: Any) -> None:
    """Beats may be said again at will; only where they leave something behind, it is once."""
    beats = message.payload["beats"]
    senders = {beat["connection_id"] for beat in beats}
    is_plain = all(_is_active(model, sender) for sender in senders)
    if not (is_plain or model.mark_processed(message)):
        return
    _record_heartbeats(model, [(sender, {"type": "heartbeat"}) for sender in senders])
    for beat in beats:
        if _is_active(model, beat["connection_id"]):
            _report(
                model, model.connections[beat["connection_id"]], beat.get("active_jobs"), beat.get("capacity")
            )


def register(model: Model, message: Message, _: Any) -> None:
    """An id serves once."""
    if not model.mark_processed(message):
        return
    id_ = message.payload["connection_id"]
    if id_ not in model.connections:
        model.connections[id_] = Connection(id_, message.payload["capacity"], heartbeat_at=model.now)
    elif not model.connections[id_].active:
        model.expired += 1
        model.rejected["connection_closed"] += 1


def disconnect(model: Model, message: Message, _: Any) -> None:
    """Noted; only the sweep judges."""
    connection = model.connections.get(message.payload["connection_id"])
    if connection and connection.active and connection.goodbye_at is None:
        connection.goodbye_at = model.now


def _is_active(model: Model, connection_id: str) -> bool:
    return connection_id in model.connections and model.connections[connection_id].active


def _record_heartbeats(model: Model, items: Iterable[tuple[str, Frame]]) -> None:
    """Whoever speaks lives, whatever it says; one that is closed or unknown is told to register anew."""
    for sender in {sender for sender, _ in items}:
        if _is_active(model, sender):
            model.connections[sender].heartbeat_at = model.now
        else:
            model.expired += 1
            model.reach(Reached.CLOSED_CONNECTION_SENT, sender in model.connections)


def _apply_heartbeat(model: Model, connection: Connection, frame: Frame) -> None:
    connection.heartbeat_at = model.now
    match frame["type"]:
        case "heartbeat":
            _report(model, connection, frame["data"].get("activeJobs"), None)
        case "job_request":
            _report(model, connection, None, frame["data"].get("capacity", DEFAULT_CAPACITY))


def _report(model: Model, connection: Connection, jobs: list[str] | int | None, capacity: int | None) -> None:
    if jobs is not None:
        connection.listed = list(jobs) if isinstance(jobs, list) else None
        connection.reported = len(jobs) if isinstance(jobs, list) else jobs
        connection.reported_at = model.now
    if capacity is not None:
        connection.capacity = capacity


def _by_attempt(items: Iterable[tuple[str, Frame]]) -> list[AttemptFrames]:
    by_key: dict[tuple[str, str], AttemptFrames] = {}
    for sender, frame in items:
        if fence := frame.get("jobId"):
            by_key.setdefault((sender, fence), AttemptFrames(sender, fence)).add(frame)
    return list(by_key.values())


def _apply_attempt(model: Model, reported: AttemptFrames) -> None:
    """Under the fence: live, and of the connection that speaks. All else is stale, or was never given."""
    attempt = model.attempts.get(reported.fence)
    if attempt is None:
        model.rejected["unknown_assignment"] += len(
            reported.frames + reported.discoveries + reported.trailing
        )
        model.reach(Reached.NEVER_GIVEN)
    elif attempt.is_live and attempt.connection.id == reported.connection:
        attempt.stale += len(reported.trailing)
        model.reach(Reached.TRAILING_FRAME, reported.trailing)
        _apply(model, attempt, reported)
    else:
        unapplied = [d for d in reported.discoveries if mark_of(d) not in attempt.discoveries]
        attempt.stale += len(reported.frames) + len(reported.trailing) + len(unapplied)
        _note_stale(model, attempt, reported)
    if reported.end and _is_active(model, reported.connection):
        _leave_list(model.connections[reported.connection], reported.fence)


def _note_stale(model: Model, attempt: Attempt, reported: AttemptFrames) -> None:
    is_own = attempt.connection.id == reported.connection
    model.reach(Reached.OTHER_CONNECTION, not is_own)
    if is_own and reported.end:
        model.reach(Reached.STALE_END)
        model.reach(Reached.END_AFTER_EXPIRY, not attempt.connection.active)
        model.reach(Reached.END_AFTER_CANCEL, attempt.status == "cancelled")


def _leave_list(connection: Connection, fence: str) -> None:
    """A crawler that says that it ended an attempt does not work on it any more."""
    if connection.listed is not None:
        connection.listed = [listed for listed in connection.listed if listed != fence]
        connection.reported = len(connection.listed)


def _apply(model: Model, attempt: Attempt, reported: AttemptFrames) -> None:
    job, end = attempt.job, reported.end
    model.reach(Reached.FINISHED_UNSTARTED, end and _succeeds(end) and attempt.status == "assigned")
    attempt.status, attempt.progressed_at = "running", model.now
    if job.status == "queued":
        job.set_status("running", model.now)
        model.reach(Reached.STARTED)
    for frame in reported.frames:
        if frame["type"] == "job_progress" and frame["data"]["processed"] > job.best:
            job.best = frame["data"]["processed"]
            model.reach(Reached.LOSSES_CLEARED, job.entry.losses)
            job.entry.losses = 0
    if end:
        model.reach(Reached.OVER_FOR_WEB_APP, job.status != "running")
        _end(model, attempt, end)
        if attempt.connection.listed is None:
            attempt.connection.reported = max(attempt.connection.reported - 1, 0)


def _end(model: Model, attempt: Attempt, end: Frame) -> None:
    job = attempt.job
    if end["type"] == "token_refresh_request":
        _wait_for_token(model, attempt)
    elif _succeeds(end):
        attempt.close("completed")
        job.entry.end(model.now, "completed")
        job.set_status("finished", model.now)
        model.reach(Reached.FINISHED)
    else:
        _fail(model, attempt, end["data"])


def _succeeds(end: Frame) -> bool:
    return end["type"] == "job_completed" and end["data"].get("success", True)


def _fail(model: Model, attempt: Attempt, data: dict[str, Any]) -> None:
    """A failure that was reported counts; the third one, or one that cannot be mended, fails the job."""
    job, entry = attempt.job, attempt.job.entry
    attempt.close("failed")
    job.errors[data.get("errorType", "CrawlFailed" if "error" in data else "CrawlUnsuccessful")] += 1
    entry.attempts += 1
    entry.losses = 0
    if data.get("isRecoverable", True) and entry.attempts < MAX_ATTEMPTS:
        entry.requeue(model.now, clock.backoff(entry.attempts))
        job.set_status("queued", model.now)
        model.reach(Reached.FAILED_AGAIN)
    else:
        model.reach(Reached.THIRD_FAILURE, data.get("isRecoverable", True))
        model.reach(Reached.FAILED_PERMANENTLY, not data.get("isRecoverable", True))
        entry.end(model.now)
        job.set_status("failed", model.now)


def _wait_for_token(model: Model, attempt: Attempt) -> None:
    """The attempt ends and counts nowhere; its job waits, unless its account has had another token since."""
    job, account = attempt.job, attempt.job.account
    job.revoke("CredentialExpired")
    is_renewed = account.renewed_at is not None and attempt.assigned_at < account.renewed_at
    if is_renewed or (account.blocked_for is not None and account.blocked_for != account.token):
        job.entry.unpark()
        job.set_status("queued", model.now)
        model.reach(Reached.TOKEN_OUTDATED)
        return
    job.entry.park(model.now)
    job.set_status("waiting_credential_renewal", model.now)
    account.blocked_for = account.token if account.blocked_for is None else account.blocked_for
    model.reach(Reached.TOKEN_DIED)
