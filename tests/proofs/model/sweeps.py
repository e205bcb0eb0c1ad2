"""The task `connections.expire_dead`, with `as_of`."""

from dataclasses import dataclass
from typing import Any

from proofs.model import clock
from proofs.model.model import Message, Model
from proofs.model.reached import Reached
from proofs.model.state import Attempt, Connection

MAX_LOSSES = 5
MAX_DISCONNECTS = 20
MIN_FLEET_FOR_MASS_SILENCE = 10

_REACHED = {
    "ConnectionLost": Reached.LOST,
    "Goodbye": Reached.DISCONNECTED,
    "Disowned": Reached.DISOWNED,
    "Stalled": Reached.STALLED,
    "TooOld": Reached.TOO_OLD,
    "NeverStarted": Reached.NEVER_STARTED,
}


def sweep(model: Model, message: Message, _: Any) -> None:
    """
    Judge as of the message's time.

    connections.expire_dead: without `as_of` it only "publishes itself". Rejected: `as_of_in_the_future`.
    """
    as_of = message.as_of
    if as_of is None:
        return
    if as_of > model.now:
        if model.mark_processed(message):
            model.rejected["as_of_in_the_future"] += 1
            model.reach(Reached.FUTURE_SWEEP)
        return
    _detect_outage(model, as_of)
    judgement = _Judgement(model, as_of, counts=not _is_mass_silence(model, as_of))
    if _is_in_grace(model):
        model.reach(Reached.GRACE)
    else:
        judgement.run()


def _detect_outage(model: Model, as_of: float) -> None:
    """
    Begin a grace of one timeout after an outage of Crawlyard.

    connections.expire_dead: "After a gap between sweeps of more than the connection timeout less two heartbeat
    intervals, and before the very first sweep, nothing is taken away for one timeout".
    """
    last = model.last_sweep
    if last is None or as_of - last > clock.OUTAGE:
        model.grace_until = model.now + clock.TIMEOUT
        model.reach(Reached.OUTAGE)
    model.last_sweep = as_of if last is None else max(last, as_of)


def _is_in_grace(model: Model) -> bool:
    return model.grace_until is not None and model.grace_until > model.now


def _is_mass_silence(model: Model, as_of: float) -> bool:
    """
    Return True if this sweep counts no losses.

    connections.expire_dead: "If one of ten or more connections … is due, and more than half of them have missed
    a heartbeat or lost their link by then, the sweep waits one timeout longer, and then counts no loss." Not in the
    contract: a connection has missed a heartbeat if it was silent for the timeout less one heartbeat interval.
    """
    if _is_in_grace(model):
        return False
    fleets = [model.active]
    fleets += [
        [c for c in model.active if c.gateway == g] for g in {c.gateway for c in model.active} - {None}
    ]
    silent = [c for fleet in fleets if _is_silent(fleet, as_of) for c in fleet if _is_dead(c, as_of)]
    if not silent:
        model.mass_waited = False
        return False
    if not model.mass_waited:
        model.mass_waited = True
        model.grace_until = model.now + clock.TIMEOUT
        model.reach(Reached.MASS_WAITED)
        return False
    model.reach(Reached.MASS_DEATH, any(c.live for c in silent))
    return True


def _is_silent(fleet: list[Connection], as_of: float) -> bool:
    """Return True if most of these connections, of all or "of ten or more of one gateway", are missing."""
    limit = as_of - (clock.TIMEOUT - clock.INTERVAL)
    missing = [c for c in fleet if c.heartbeat_at < limit or c.lost_at is not None]
    return len(fleet) >= MIN_FLEET_FOR_MASS_SILENCE and 2 * len(missing) > len(fleet)


def _is_dead(connection: Connection, as_of: float) -> bool:
    """
    Return True if a connection was silent, or one "whose link was lost for `CRAWLYARD_RESUME_WINDOW`".

    Not in the contract: a link counts as lost for so long whatever its crawler has sent since.
    """
    lost_at = connection.lost_at
    is_lost = lost_at is not None and lost_at < as_of - clock.RESUME_WINDOW
    return is_lost or connection.heartbeat_at < as_of - clock.TIMEOUT


@dataclass
class _Judgement:
    """One sweep; its error_types are those of the table in connections.expire_dead."""

    model: Model
    as_of: float
    counts: bool
    """True if losses are counted."""

    def run(self) -> None:
        """
        Close connections, then requeue overdue attempts.

        connections.expire_dead: "The last four are looked for once no more connections are to be closed."
        """
        closable = [c for c in self.model.active if self._is_closable(c)]
        for connection in closable:
            has_disconnected = connection.disconnected_at is not None
            for attempt in list(connection.live):
                self._close(attempt, "Goodbye" if has_disconnected else "ConnectionLost")
            connection.active = False
        for connection in self.model.active:
            for attempt in list(connection.live):
                self._note_absence(attempt)
                if error_type := self._overdue(attempt):
                    self._close(attempt, error_type)

    def _is_closable(self, connection: Connection) -> bool:
        """
        Return True if the connection was silent for the timeout, "or … had disconnected", as of then.

        connections.disconnect: "Its frames still apply until a sweep closes it, two seconds later at the earliest".
        """
        is_dead = _is_dead(connection, self.as_of)
        left_at = connection.disconnected_at
        has_disconnected = left_at is not None and left_at < self.as_of - clock.GOODBYE_MARGIN
        self.model.reach(
            Reached.GOODBYE_WAITED, left_at is not None and left_at < self.as_of and not has_disconnected
        )
        is_spared = not is_dead and connection.heartbeat_at < self.model.now - clock.TIMEOUT
        self.model.reach(Reached.SPARED_BY_OLD_SWEEP, is_spared and not has_disconnected)
        return is_dead or has_disconnected

    def _note_absence(self, attempt: Attempt) -> None:
        """
        Note since when an attempt is missing from its crawler's list.

        connections.heartbeat: "A crawler that lists its jobs disowns those that it omits … A count disowns
        nothing." A list that is older than the assignment could not name it. Not in the contract: the time
        counts from the newest list before the first sweep that sees the absence.
        """
        connection = attempt.connection
        if connection.listed is None:
            return
        if attempt.fence in connection.listed or attempt.assigned_at >= connection.reported_at:
            attempt.absent_since = None
        elif attempt.absent_since is None:
            attempt.absent_since = connection.reported_at

    def _overdue(self, attempt: Attempt) -> str | None:
        if self._is_disowned(attempt):
            return "Disowned"
        if self._since(attempt.progressed_at or attempt.assigned_at) < self.as_of - clock.STALL:
            return "Stalled"
        if attempt.assigned_at < self.as_of - clock.AGE:
            return "TooOld"
        is_listed = attempt.fence in (attempt.connection.listed or ())
        is_unstarted = attempt.status == "assigned" and not is_listed
        if is_unstarted and self._since(attempt.assigned_at) < self.as_of - clock.START:
            return "NeverStarted"
        return None

    def _is_disowned(self, attempt: Attempt) -> bool:
        """
        Return True if the attempt was missing for the absence grace.

        Not in the contract: one list is not enough, a later one must omit it too.
        """
        connection, absent = attempt.connection, attempt.absent_since
        if absent is None or connection.listed is None or attempt.fence in connection.listed:
            return False
        return absent < self.as_of - clock.ABSENCE and connection.reported_at > absent

    def _is_unseen(self, attempt: Attempt) -> bool:
        """
        Return True if nothing shows that the crawler had the job.

        "A job of a lost link that its crawler has neither started nor listed counts as one of a disconnect".
        """
        connection = attempt.connection
        self.model.reach(Reached.LINK_LOST, connection.lost_at is not None)
        is_listed = attempt.fence in (connection.listed or ())
        is_unseen = connection.lost_at is not None and attempt.status == "assigned" and not is_listed
        self.model.reach(Reached.UNSEEN, is_unseen)
        return is_unseen

    def _since(self, moment: float) -> float:
        """After a grace "the durations of the table … count from its end"."""
        return max(moment, self.model.grace_until or moment)

    def _close(self, attempt: Attempt, error_type: str) -> None:
        """
        Close an attempt and requeue its job.

        connections.expire_dead: "All but `Goodbye` are losses, and but `TooOld` where the attempt got
        anywhere." "A lost job is queued again at once …; the fifth
        loss in a row fails it." connections.disconnect: "A job that meets a second disconnect is backed off
        before its next attempt; after more than 20 it fails."
        """
        model, job, entry = self.model, attempt.job, attempt.job.entry
        model.reach(_REACHED[error_type])
        is_unseen = self._is_unseen(attempt) and error_type == "ConnectionLost"
        attempt.close("failed")
        job.errors[error_type] += 1
        is_disconnect = error_type == "Goodbye" or (is_unseen and self.counts)
        has_advanced = any(attempt.counts.values()) or attempt.has_found
        is_harmless = is_disconnect or is_unseen or (error_type == "TooOld" and has_advanced)
        entry.losses += self.counts and not is_harmless
        entry.disconnects += is_disconnect
        if entry.losses >= MAX_LOSSES or entry.disconnects > MAX_DISCONNECTS:
            is_left = entry.disconnects > MAX_DISCONNECTS
            model.reach(Reached.TOO_MANY_DISCONNECTS if is_left else Reached.FIFTH_LOSS)
            entry.end(model.now)
            job.set_status("failed", model.now)
            return
        waits = is_disconnect and entry.disconnects > 1
        entry.requeue(model.now, clock.backoff(entry.disconnects - 1) if waits else (0.0, 0.0))
        job.set_status("queued", model.now)
