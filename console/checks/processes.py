"""Checks that this machine's workers, beat and gateways are at work, by the heartbeat files that they write."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from console.checks.broker import BrokerRefusesError, try_broker
from console.checks.check import Check
from console.checks.deadline import begin, within
from console.output.screen import duration
from console.output.urls import reason
from persistence.exceptions import CrawlyardError
from tasks.start.temporary_folder import why_no_temporary_folder
from tasks.worker import heartbeat_file
from tasks.worker.heartbeat_file import ProcessLiveness

BROKER_TIMEOUT_S = 2.0
RECOVERY_S = 8.0
"""For a process that has not noticed yet that the broker is back: it tries every two seconds."""
_POLL_S = 0.2

_KEEP_LINKS = {"gateway"}
"""What works while the broker is away: a gateway keeps its links. Its file says that its loop turns."""


def check_liveness(kind: str, *, end_stuck: bool = False) -> list[Check]:
    """
    Return a check per running process of this kind, or one failed check if none runs.

    While the broker does not answer, or refuses writes, no worker can consume and no beat publish, and a restart would
    not help: their checks pass then. They fail if it refuses our user, which only an operator can change. *end_stuck*
    kills the processes that fail for another reason.
    """
    needs_broker = kind not in _KEEP_LINKS
    try:
        refused = "" if not needs_broker or _all_well(kind) else _refused()
        is_excused = refused is None
        if (
            needs_broker
            and refused == ""
            and not any(reading.refused for reading in heartbeat_file.read(kind))
        ):
            _wait(lambda: _all_well(kind))
        readings = list(heartbeat_file.read(kind))
    except OSError as error:
        return [Check(kind, healthy=False, detail=why_no_temporary_folder() or str(error))]
    if not readings:
        return [Check(kind, healthy=False, detail="none runs on this machine under this user")]
    if refused:
        readings = [replace(reading, refused=reading.refused or refused) for reading in readings]
    stuck = [reading.pid for reading in readings if not (reading.is_well or reading.refused or is_excused)]
    for pid in stuck if end_stuck else ():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # a frozen process reacts to no other signal
    return [_judged(kind, reading, is_excused=is_excused) for reading in readings]


def _judged(kind: str, reading: ProcessLiveness, *, is_excused: bool) -> Check:
    if reading.refused:
        return Check(f"{kind} {reading.pid}", healthy=False, detail=f"consumes nothing: {reading.refused}")
    detail = f"last known to work {duration(reading.age)} ago; the limit is {duration(reading.bound)}"
    if is_excused and not reading.is_well:
        detail += "; excused, since the broker cannot be used"
    return Check(f"{kind} {reading.pid}", reading.is_well or is_excused, detail)


def _all_well(kind: str) -> bool:
    return all(reading.is_well for reading in heartbeat_file.read(kind))


def _refused() -> str | None:
    """Return why the broker refuses our user, nothing if it serves, and None if it does not serve anybody."""
    try:
        within(BROKER_TIMEOUT_S, begin(try_broker), "The broker")
    except BrokerRefusesError as error:
        return reason(error)
    except CrawlyardError:
        return None
    return ""


def _wait(probe: Callable[[], bool]) -> None:
    deadline = time.monotonic() + RECOVERY_S
    while not probe() and time.monotonic() < deadline:
        time.sleep(_POLL_S)
