"""The sweep, in the model: the one that judges."""

from dataclasses import dataclass
from typing import Any

from proofs.model.machine import clock
from proofs.model.machine.reached import Reached
from proofs.model.model import Message, Model
from proofs.model.state import Attempt, Connection

MAX_LOSSES = 5
MAX_DISCONNECTS = 20
MIN_FLEET_FOR_MASS_SILENCE = 10

_REACHED = {
    "ConnectionLost": Reached.LOST,
    "Goodbye": Reached.DISCONNECTED,
    "Disowned": Reached.DISOWNED,
    "Stalled": Reached.STALLED,
    "NeverStarted": Reached.NEVER_STARTED,
}


def sweep(model: Model, message: Message, _: Any) -> None:
    """Give back what is lost as of then, in as many units as it takes."""
    as_of = message.as_of
    if as_of is None:
        return  # it only rings itself
    if as_of > model.now:
        if model.mark_processed(message):
            model.rejected["as_of_in_the_future"] += 1
            model.reach(Reached.FUTURE_SWEEP)
        return
    _detect_outage(model, as_of)
    sweeping = _Sweep(model, as_of, counts=not _is_mass_silence(model, as_of))
    if _is_in_grace(model):
        model.reach(Reached.GRACE)
    else:
        sweeping.run()


def _detect_outage(model: Model, as_of: float) -> None:
    """Too long after the last sweep it was we who were gone."""
    last = model.last_sweep
    if last is None or last > model.now or as_of - last > clock.OUTAGE:
        model.grace_until = model.now + clock.TIMEOUT
        model.reach(Reached.OUTAGE)
    model.last_sweep = as_of if last is None or last > model.now else max(last, as_of)


def _is_in_grace(model: Model) -> bool:
    return model.grace_until is not None and model.grace_until > model.now


def _is_mass_silence(model: Model, as_of: float) -> bool:
    """Most of a fleet silent: the first sweep to see it waits one timeout, the next takes without counting."""
    if _is_in_grace(model):
        return False
    fleet = model.active
    silent = [c for c in fleet if c.heartbeat_at < as_of - clock.TIMEOUT]
    missing = [c for c in fleet if c.heartbeat_at < as_of - (clock.TIMEOUT - clock.INTERVAL)]
    if not silent or len(fleet) < MIN_FLEET_FOR_MASS_SILENCE or 2 * len(missing) <= len(fleet):
        model.mass_waited = False
        return False
    if not model.mass_waited:
        model.mass_waited = True
        model.grace_until = model.now + clock.TIMEOUT
        model.reach(Reached.MASS_WAITED)
        return False
    model.reach(Reached.MASS_DEATH, any(c.live for c in silent))
    return True


@dataclass
class _Sweep:
    model: Model
    as_of: float
    counts: bool

    def run(self) -> None:
        closable = [c for c in self.model.active if self._is_closable(c)]
        for connection in closable:
            for attempt in list(connection.live):
                self._close(attempt, "Goodbye" if connection.goodbye_at is not None else "ConnectionLost")
        for connection in self.model.active:
            for attempt in list(connection.live):
                self._mark_absence(attempt)
                if ending := self._overdue(attempt):
                    self._close(attempt, ending)
        for connection in closable:
            connection.active = False

    def _is_closable(self, connection: Connection) -> bool:
        is_silent = connection.heartbeat_at < self.as_of - clock.TIMEOUT
        disconnected = connection.goodbye_at is not None and connection.goodbye_at < self.as_of
        is_spared = not is_silent and connection.heartbeat_at < self.model.now - clock.TIMEOUT
        self.model.reach(Reached.SPARED_BY_OLD_SWEEP, is_spared and not disconnected)
        return is_silent or disconnected

    def _mark_absence(self, attempt: Attempt) -> None:
        """Since when it is missing from its crawler's list, though it was given it before that was said."""
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
        is_listed = attempt.fence in (attempt.connection.listed or ())
        is_to_begin = attempt.status == "assigned" and not is_listed
        if is_to_begin and self._since(attempt.assigned_at) < self.as_of - clock.START:
            return "NeverStarted"
        return None

    def _is_disowned(self, attempt: Attempt) -> bool:
        """Missing since the grace, and missing again in what its crawler has said since."""
        connection, absent = attempt.connection, attempt.absent_since
        if absent is None or connection.listed is None or attempt.fence in connection.listed:
            return False
        return absent < self.as_of - clock.ABSENCE and connection.reported_at > absent

    def _since(self, moment: float) -> float:
        """Time runs from the end of our own outage."""
        return max(moment, self.model.grace_until or moment)

    def _close(self, attempt: Attempt, ending: str) -> None:
        """Back into the queue at once; a goodbye said again and again waits, and too many losses fail the job."""
        model, job, entry = self.model, attempt.job, attempt.job.entry
        model.reach(_REACHED[ending])
        attempt.close("failed")
        job.errors[ending] += 1
        entry.losses += ending != "Goodbye" and self.counts
        entry.goodbyes += ending == "Goodbye"
        is_over = entry.losses >= MAX_LOSSES or entry.goodbyes > MAX_DISCONNECTS
        if is_over:
            model.reach(
                Reached.TOO_MANY_DISCONNECTS if entry.goodbyes > MAX_DISCONNECTS else Reached.FIFTH_LOSS
            )
            entry.end(model.now)
            job.set_status("failed", model.now)
            return
        waits = ending == "Goodbye" and entry.goodbyes > 1
        entry.requeue(model.now, clock.backoff(entry.goodbyes - 1) if waits else (0.0, 0.0))
        job.set_status("queued", model.now)
