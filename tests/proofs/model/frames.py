"""The tasks `crawler.frames`, `connections.register`, `connections.heartbeat` and `connections.disconnect`."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from proofs.model import clock
from proofs.model.discoveries import discover, identity_of, is_discovery
from proofs.model.model import Message, Model
from proofs.model.reached import Reached
from proofs.model.state import Attempt, Connection

Frame = dict[str, Any]

MAX_ATTEMPTS = 3
DEFAULT_CAPACITY = 5
NONSENSE = "nonsense"
"""The type of an invalid frame."""
MAX_ITEM_BYTES = 2**20

_TERMINAL = ("job_completed", "job_failed", "token_refresh_request")


@dataclass
class AttemptFrames:
    """The frames of one attempt that one connection sent in one message."""

    connection: str
    fence: str
    frames: list[Frame] = field(default_factory=list)
    discoveries: list[Frame] = field(default_factory=list)
    trailing: list[Frame] = field(default_factory=list)
    """Those after the terminal frame."""

    @property
    def end(self) -> Frame | None:
        """The terminal frame."""
        last = self.frames[-1] if self.frames else None
        return last if last and last["type"] in _TERMINAL else None

    def add(self, frame: Frame) -> None:
        """
        Add the next frame.

        After the end the attempt is not live, so frames are stale, except discoveries of a completed attempt
        (Discoveries).
        """
        if is_discovery(frame) and (self.end is None or _is_success(self.end)):
            self.discoveries.append(frame)
        else:
            (self.trailing if self.end else self.frames).append(frame)


def apply_message(model: Model, message: Message, seen: Any) -> None:
    """
    Apply the frames of one message.

    crawler.frames: "Frames of one attempt apply in the order of the list. Every item is a sign of life of its
    connection, even if it is rejected. … Discoveries are applied first, each in a transaction of its own": they
    are known by their own identity, not by the message's id. What a producer pushes: "A frame that is too large is
    no sign of life."
    """
    items = [item for item in message.payload["frames"] if len(json.dumps(item)) <= MAX_ITEM_BYTES]
    too_large = len(message.payload["frames"]) - len(items)
    model.refuse(message, "too_large", too_large)
    model.reach(Reached.TOO_LARGE, too_large)
    received = [(item["connection_id"], item["frame"]) for item in items]
    valid = [(sender, frame) for sender, frame in received if frame["type"] != NONSENSE]
    attempts = _by_attempt(valid)
    if any(is_discovery(frame) for _, frame in valid):
        for sender in {sender for sender, _ in received if _is_active(model, sender)}:
            model.connections[sender].heartbeat_at = model.now
        for a in attempts:
            for frame in a.discoveries:
                discover(model, a.connection, frame, seen)
    if not model.mark_processed(message):
        return
    _record_heartbeats(model, received)
    _apply_reports(model, valid)
    model.rejected["invalid"] += len(received) - len(valid)
    model.reach(Reached.NONSENSE, len(received) > len(valid))
    for a in attempts:
        _apply_attempt(model, a)


def apply_heartbeats(model: Model, message: Message, _: Any) -> None:
    """
    Apply the heartbeats of one message.

    Processed once: only "a `connections.heartbeat` that brings a capacity or a list of jobs, or leaves an event or a
    rejected heartbeat".
    """
    beats = message.payload["beats"]
    senders = {beat["connection_id"] for beat in beats}
    leaves_nothing = all(_is_active(model, sender) for sender in senders)
    brings_nothing = not any("capacity" in b or isinstance(b.get("active_jobs"), list) for b in beats)
    if not ((leaves_nothing and brings_nothing) or model.mark_processed(message)):
        return
    _record_heartbeats(model, [(sender, {"type": "heartbeat"}) for sender in senders])
    for beat in beats:
        if _is_active(model, beat["connection_id"]):
            connection = model.connections[beat["connection_id"]]
            _report(model, connection, beat.get("active_jobs"), beat.get("capacity"))


def register(model: Model, message: Message, _: Any) -> None:
    """
    Register a connection.

    connections.register: "If it is closed, the message is rejected as `connection_closed`, and the event is
    `connection_expired`". Of an open connection it "is a sign of life and changes nothing else".
    """
    if not model.mark_processed(message):
        return
    id_ = message.payload["connection_id"]
    if id_ not in model.connections:
        model.connections[id_] = Connection(id_, message.payload["capacity"], heartbeat_at=model.now)
    elif model.connections[id_].active:
        model.connections[id_].heartbeat_at = model.now
    else:
        model.expired += 1
        model.rejected["connection_closed"] += 1


def disconnect(model: Model, message: Message, _: Any) -> None:
    """connections.disconnect: the sweep closes the connection; "an unknown or closed connection is ignored"."""
    connection = model.connections.get(message.payload["connection_id"])
    if connection and connection.active and connection.disconnected_at is None:
        connection.disconnected_at = model.now


def _is_active(model: Model, connection_id: str) -> bool:
    return connection_id in model.connections and model.connections[connection_id].active


def _record_heartbeats(model: Model, items: Iterable[tuple[str, Frame]]) -> None:
    """
    Take any item as a sign of life of its sender.

    connections.heartbeat: "A heartbeat of a closed or unknown connection changes nothing and leaves the event
    `connection_expired`; so does a frame." One message leaves one event for each such connection.
    """
    for sender in {sender for sender, _ in items}:
        if _is_active(model, sender):
            model.connections[sender].heartbeat_at = model.now
        else:
            model.expired += 1
            model.reach(Reached.CLOSED_CONNECTION_SENT, sender in model.connections)


def _apply_reports(model: Model, items: Iterable[tuple[str, Frame]]) -> None:
    """Apply what frames report about their connection; Frames: `heartbeat` and `job_request`."""
    for sender, frame in items:
        if not _is_active(model, sender):
            continue
        connection = model.connections[sender]
        connection.heartbeat_at = model.now
        match frame["type"]:
            case "heartbeat":
                _report(model, connection, frame["data"].get("activeJobs"), None, frame["timestamp"])
            case "job_request":
                capacity = frame["data"].get("capacity", DEFAULT_CAPACITY)
                _report(model, connection, None, capacity, frame["timestamp"])


def _report(
    model: Model,
    connection: Connection,
    jobs: list[str] | int | None,
    capacity: int | None,
    said_at: str | None = None,
) -> None:
    """
    Record what a heartbeat or a frame reports of its connection.

    connections.heartbeat: active jobs are "a count …, or a list"; "omitted fields stay as they were"; "what was said
    earlier than that and comes late … replaces nothing".
    """
    if jobs is not None and _is_late(said_at, connection.reported_said_at):
        model.reach(Reached.LATE_REPORT)
        jobs = None
    if capacity is not None and _is_late(said_at, connection.capacity_said_at):
        model.reach(Reached.LATE_CAPACITY)
        capacity = None
    if jobs is not None:
        connection.reported_said_at = said_at or connection.reported_said_at
        connection.listed = list(jobs) if isinstance(jobs, list) else None
        connection.reported = len(jobs) if isinstance(jobs, list) else jobs
        connection.reported_at = model.now
    if capacity is not None:
        connection.capacity_said_at = said_at or connection.capacity_said_at
        connection.capacity = capacity


def _is_late(said_at: str | None, other: str | None) -> bool:
    """Return True if it was said earlier; all times of the machine's crawlers are within ten minutes."""
    return said_at is not None and other is not None and said_at < other


def _by_attempt(items: Iterable[tuple[str, Frame]]) -> list[AttemptFrames]:
    by_key: dict[tuple[str, str], AttemptFrames] = {}
    for sender, frame in items:
        if fence := frame.get("jobId"):
            by_key.setdefault((sender, fence), AttemptFrames(sender, fence)).add(frame)
    return list(by_key.values())


def _apply_attempt(model: Model, reported: AttemptFrames) -> None:
    """
    Apply the frames of one attempt behind its fence.

    Frames: "a frame applies if its attempt is live and belongs to the connection that sends it. Otherwise it is
    counted in job_assignment_mapping.stale_words and changes nothing. A `jobId` that was never issued is
    rejected as `unknown_assignment`."
    """
    attempt = model.attempts.get(reported.fence)
    if attempt is None:
        count = len(reported.frames + reported.discoveries + reported.trailing)
        model.rejected["unknown_assignment"] += count
        model.reach(Reached.NEVER_GIVEN)
    elif attempt.is_live and attempt.connection.id == reported.connection:
        attempt.stale += len(reported.trailing)
        model.reach(Reached.TRAILING_FRAME, reported.trailing)
        _apply(model, attempt, reported)
    else:
        unapplied = [d for d in reported.discoveries if identity_of(d) not in attempt.discoveries]
        attempt.stale += len(reported.frames) + len(reported.trailing) + len(unapplied)
        _reach_stale(model, attempt, reported)
    if reported.end and _is_active(model, reported.connection):
        _leave_list(model.connections[reported.connection], reported.fence)


def _reach_stale(model: Model, attempt: Attempt, reported: AttemptFrames) -> None:
    is_own = attempt.connection.id == reported.connection
    model.reach(Reached.OTHER_CONNECTION, not is_own)
    if is_own and reported.end:
        model.reach(Reached.STALE_END)
        model.reach(Reached.END_AFTER_EXPIRY, not attempt.connection.active)
        model.reach(Reached.END_AFTER_CANCEL, attempt.status == "cancelled")


def _leave_list(connection: Connection, fence: str) -> None:
    """jobs.cancel: what a crawler "reports as active keeps its slot until it reports less or reports the end"."""
    if connection.listed is not None:
        connection.listed = [listed for listed in connection.listed if listed != fence]
        connection.reported = len(connection.listed)


def _apply(model: Model, attempt: Attempt, reported: AttemptFrames) -> None:
    """
    Apply frames of a live attempt.

    Frames: "job_started and job_progress make attempt and job `running`. … Both may be missing". Progress:
    "Only progress beyond `best` resets the losses in a row". connections.expire_dead: progress advances by a
    count above the attempt's own, or a new entity type.
    """
    job, end = attempt.job, reported.end
    model.reach(Reached.FINISHED_UNSTARTED, end and _is_success(end) and attempt.status == "assigned")
    advances = [_raise_count(attempt, f["data"]) for f in reported.frames if f["type"] == "job_progress"]
    model.reach(Reached.REPEATED_PROGRESS, advances and not any(advances))
    if attempt.status == "assigned" or any(advances):
        attempt.progressed_at = model.now
    attempt.status = "running"
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


def _raise_count(attempt: Attempt, data: dict[str, Any]) -> bool:
    """Raise the attempt's own count of an entity type; return True if it is higher than before, or the first."""
    before = attempt.counts.get(data["entityType"], -1)
    attempt.counts[data["entityType"]] = max(before, data["processed"])
    return bool(data["processed"] > before)


def _end(model: Model, attempt: Attempt, end: Frame) -> None:
    """Frames: "job_completed with `success` makes the job `finished`"; the other ends do not."""
    job = attempt.job
    if end["type"] == "token_refresh_request":
        _wait_for_token(model, attempt)
    elif _is_success(end):
        attempt.close("completed")
        job.entry.end(model.now, "completed")
        job.set_status("finished", model.now)
        model.reach(Reached.FINISHED)
    else:
        _fail(model, attempt, end["data"])


def _is_success(end: Frame) -> bool:
    return end["type"] == "job_completed" and end["data"].get("success", True)


def _fail(model: Model, attempt: Attempt, data: dict[str, Any]) -> None:
    """
    Count a failure.

    Frames: without success, job_completed "is a recoverable failure of type `CrawlUnsuccessful`". "job_failed
    counts one attempt and leaves an error row, of type `CrawlFailed` if it names none. If it is recoverable and
    CRAWLYARD_MAX_ATTEMPTS is not reached, the job is queued again … Otherwise it is `failed`." Losses are
    counted "in a row" (connections.expire_dead), and a reported failure ends the row.
    """
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
    """
    Close an attempt whose token died, without counting it.

    Tokens that died: the attempt ends "as `cancelled`, with an error row of type `CredentialExpired`. … The job
    becomes `waiting_credential_renewal`." The machine lets tokens expire first, so that they are known to be dead.
    "If the attempt was assigned before the account got its present token, it had an older one, and its job is
    queued again at once." "A blocked account is unblocked by the first token that differs from the one it had
    then."
    """
    job, account = attempt.job, attempt.job.account
    job.revoke("CredentialExpired")
    is_older = account.renewed_at is not None and attempt.assigned_at < account.renewed_at
    is_replaced = account.blocked_for is not None and account.blocked_for != account.token
    if is_older or is_replaced:
        job.entry.unpark()
        job.set_status("queued", model.now)
        model.reach(Reached.TOKEN_OUTDATED)
        return
    job.entry.park(model.now)
    job.set_status("waiting_credential_renewal", model.now)
    account.blocked_for = account.token if account.blocked_for is None else account.blocked_for
    model.reach(Reached.TOKEN_DIED)
