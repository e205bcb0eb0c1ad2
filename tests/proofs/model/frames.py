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
class Words:
    """What one connection says of one attempt in one message."""

    connection: str
    fence: str
    frames: list[Frame] = field(default_factory=list)
    discoveries: list[Frame] = field(default_factory=list)
    late: list[Frame] = field(default_factory=list)

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
            (self.late if self.end else self.frames).append(frame)


def hear_frames(model: Model, message: Message, seen: Any) -> None:
    """Discoveries first, each by itself, also where the message was heard before; then all else, once."""
    said = [(item["connection_id"], item["frame"]) for item in message.payload["frames"]]
    valid = [(speaker, frame) for speaker, frame in said if frame["type"] != NONSENSE]
    words = _by_attempt(valid)
    if any(is_discovery(frame) for _, frame in valid):
        for speaker, frame in valid:
            if (connection := model.connections.get(speaker)) and connection.active:
                _beat(model, connection, frame)
        for w in words:
            for frame in w.discoveries:
                discover(model, w.connection, frame, seen)
    if not model.claim(message):
        return
    _note_life(model, said)
    for speaker, frame in valid:
        if (connection := model.connections.get(speaker)) and connection.active:
            _beat(model, connection, frame)
    model.rejected["invalid"] += len(said) - len(valid)
    model.note(Reached.NONSENSE, len(said) > len(valid))
    for w in words:
        _hear(model, w)


def hear_beats(model: Model, message: Message, _: Any) -> None:
    """Beats may be said again at will; only where they leave something behind, it is once."""
    beats = message.payload["beats"]
    speakers = {beat["connection_id"] for beat in beats}
    is_plain = all(_is_active(model, speaker) for speaker in speakers)
    if not (is_plain or model.claim(message)):
        return
    _note_life(model, [(speaker, {"type": "heartbeat"}) for speaker in speakers])
    for beat in beats:
        if _is_active(model, beat["connection_id"]):
            _report(
                model, model.connections[beat["connection_id"]], beat.get("active_jobs"), beat.get("capacity")
            )


def register(model: Model, message: Message, _: Any) -> None:
    """An id serves once."""
    if not model.claim(message):
        return
    id_ = message.payload["connection_id"]
    if id_ not in model.connections:
        model.connections[id_] = Connection(id_, message.payload["capacity"], heartbeat_at=model.now)
    elif not model.connections[id_].active:
        model.expired += 1
        model.rejected["connection_closed"] += 1


def say_goodbye(model: Model, message: Message, _: Any) -> None:
    """Noted; only the sweep judges."""
    connection = model.connections.get(message.payload["connection_id"])
    if connection and connection.active and connection.goodbye_at is None:
        connection.goodbye_at = model.now


def _is_active(model: Model, connection_id: str) -> bool:
    return connection_id in model.connections and model.connections[connection_id].active


def _note_life(model: Model, said: Iterable[tuple[str, Frame]]) -> None:
    """Whoever speaks lives, whatever it says; one that is closed or unknown is told to register anew."""
    for speaker in {speaker for speaker, _ in said}:
        if _is_active(model, speaker):
            model.connections[speaker].heartbeat_at = model.now
        else:
            model.expired += 1
            model.note(Reached.DEAD_BEAT, speaker in model.connections)


def _beat(model: Model, connection: Connection, frame: Frame) -> None:
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


def _by_attempt(said: Iterable[tuple[str, Frame]]) -> list[Words]:
    words: dict[tuple[str, str], Words] = {}
    for speaker, frame in said:
        if fence := frame.get("jobId"):
            words.setdefault((speaker, fence), Words(speaker, fence)).add(frame)
    return list(words.values())


def _hear(model: Model, words: Words) -> None:
    """Under the fence: live, and of the connection that speaks. All else is stale, or was never given."""
    attempt = model.attempts.get(words.fence)
    if attempt is None:
        model.rejected["unknown_assignment"] += len(words.frames + words.discoveries + words.late)
        model.note(Reached.NEVER_GIVEN)
    elif attempt.is_live and attempt.connection.id == words.connection:
        attempt.stale += len(words.late)
        model.note(Reached.LATE_WORD, words.late)
        _apply(model, attempt, words)
    else:
        unheard = [d for d in words.discoveries if mark_of(d) not in attempt.discoveries]
        attempt.stale += len(words.frames) + len(words.late) + len(unheard)
        _note_stale(model, attempt, words)
    if words.end and _is_active(model, words.connection):
        _leave_list(model.connections[words.connection], words.fence)


def _note_stale(model: Model, attempt: Attempt, words: Words) -> None:
    is_own = attempt.connection.id == words.connection
    model.note(Reached.STRANGER, not is_own)
    if is_own and words.end:
        model.note(Reached.STALE_END)
        model.note(Reached.END_AFTER_EXPIRY, not attempt.connection.active)
        model.note(Reached.END_AFTER_CANCEL, attempt.status == "cancelled")


def _leave_list(connection: Connection, fence: str) -> None:
    """A crawler that says that it ended an attempt does not work on it any more."""
    if connection.listed is not None:
        connection.listed = [listed for listed in connection.listed if listed != fence]
        connection.reported = len(connection.listed)


def _apply(model: Model, attempt: Attempt, words: Words) -> None:
    job, end = attempt.job, words.end
    model.note(Reached.FINISHED_UNSTARTED, end and _succeeds(end) and attempt.status == "assigned")
    attempt.status, attempt.progressed_at = "running", model.now
    if job.status == "queued":
        job.becomes("running", model.now)
        model.note(Reached.STARTED)
    for frame in words.frames:
        if frame["type"] == "job_progress" and frame["data"]["processed"] > job.best:
            job.best = frame["data"]["processed"]
            model.note(Reached.FORGIVEN, job.entry.losses)
            job.entry.losses = 0
    if end:
        model.note(Reached.OVER_FOR_WEB_APP, job.status != "running")
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
        job.becomes("finished", model.now)
        model.note(Reached.FINISHED)
    else:
        _fail(model, attempt, end["data"])


def _succeeds(end: Frame) -> bool:
    return end["type"] == "job_completed" and end["data"].get("success", True)


def _fail(model: Model, attempt: Attempt, said: dict[str, Any]) -> None:
    """A failure that was reported counts; the third one, or one that cannot be mended, fails the job."""
    job, entry = attempt.job, attempt.job.entry
    attempt.close("failed")
    job.errors[said.get("errorType", "CrawlFailed" if "error" in said else "CrawlUnsuccessful")] += 1
    entry.attempts += 1
    entry.losses = 0
    if said.get("isRecoverable", True) and entry.attempts < MAX_ATTEMPTS:
        entry.back(model.now, clock.backoff(entry.attempts))
        job.becomes("queued", model.now)
        model.note(Reached.FAILED_AGAIN)
    else:
        model.note(Reached.THIRD_FAILURE, said.get("isRecoverable", True))
        model.note(Reached.FAILED_FOR_GOOD, not said.get("isRecoverable", True))
        entry.end(model.now)
        job.becomes("failed", model.now)


def _wait_for_token(model: Model, attempt: Attempt) -> None:
    """The attempt ends and counts nowhere; its job waits, unless its account has had another token since."""
    job, account = attempt.job, attempt.job.account
    job.revoke("CredentialExpired")
    is_renewed = account.renewed_at is not None and attempt.assigned_at < account.renewed_at
    if is_renewed or (account.held_for is not None and account.held_for != account.token):
        job.entry.let_go()
        job.becomes("queued", model.now)
        model.note(Reached.TOKEN_OUTDATED)
        return
    job.entry.hold(model.now)
    job.becomes("waiting_credential_renewal", model.now)
    account.held_for = account.token if account.held_for is None else account.held_for
    model.note(Reached.TOKEN_DIED)
