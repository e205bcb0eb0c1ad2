"""
The fleet's own record: what its crawlers worked on, and which of their messages the broker accepted.

Each line is a JSON object, written at once, so that it outlives a gateway that is killed. Times are seconds
since 1970 by the clock of this machine, which is the database's too.
"""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Journal:
    """A journal, written by one process from any of its threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._lock = threading.Lock()

    def write(self, kind: str, **values: Any) -> None:
        """Add one line."""
        with self._lock:
            self._file.write(json.dumps({"at": time.time(), "kind": kind, **values}) + "\n")

    def close(self) -> None:
        """End it."""
        self._file.close()


@dataclass(frozen=True)
class WorkPeriod:
    """A crawler's work on one attempt."""

    fence: str
    begun: float
    ended: float


@dataclass
class Record:
    """The content of the journals of all gateways."""

    work_periods: list[WorkPeriod] = field(default_factory=list)
    accepted: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By connection: when the broker accepted a sign of life."""
    answered: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By connection: when one of Crawlyard's gateways answered its crawler."""
    stale: set[str] = field(default_factory=set)
    """Attempts of which a crawler sent frames after its connection had expired while it was frozen."""
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How many messages were confused, and how many crawlers died, froze or left."""


def read(paths: Iterable[Path]) -> Record:
    """Read the journals of gateways that have ended."""
    record = Record()
    for path in paths:
        _read(path, record)
    return record


def _read(path: Path, record: Record) -> None:
    open_periods: dict[str, float] = {}
    last = 0.0
    for line in path.read_text().splitlines():
        note = json.loads(line)
        match note["kind"]:
            case "started":  # the previous process was killed with all its work, at its last line
                _end(record, open_periods, list(open_periods), last)
            case "took":
                open_periods.update(dict.fromkeys(note["fences"], note["at"]))
            case "let go":
                _end(record, open_periods, note["fences"], note["at"])
            case "accepted" | "answered" as kind:
                moments = record.accepted if kind == "accepted" else record.answered
                for connection_id in note["ids"]:
                    moments[connection_id].append(note["at"])
            case "stale":
                record.stale.update(note["fences"])
            case "count":
                record.counts[note["what"]] += 1
        last = note["at"]
    _end(record, open_periods, list(open_periods), last)


def _end(record: Record, open_periods: dict[str, float], fences: Iterable[str], at: float) -> None:
    record.work_periods += [
        WorkPeriod(fence, open_periods.pop(fence), at) for fence in fences if fence in open_periods
    ]


def is_busy(path: Path) -> bool:
    """Return True unless the gateway reported last that it has nothing left to send."""
    reports = [
        note for line in path.read_text().splitlines() if (note := json.loads(line))["kind"] == "reported"
    ]
    return not reports or bool(reports[-1]["busy"])
