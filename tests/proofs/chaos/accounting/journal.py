"""
The fleet's own record: what its crawlers worked on, and which words of whom the broker has taken.

One JSON object a line, written at once, so that it outlives a gateway that is killed. Times are
seconds since 1970 of this machine, which is the database's too.
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
    """Written by one process, from any thread."""

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
    """What the journals of all gateways say."""

    work_periods: list[WorkPeriod] = field(default_factory=list)
    accepted: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By connection: when the broker took a word that proves its life."""
    stale: set[str] = field(default_factory=set)
    """Attempts of which a crawler spoke that had slept through the end of its connection."""
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """What befell the messages, and who came and went."""


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
            case "born":  # whoever was before was killed with all its work, as of the last line
                _end(record, open_periods, list(open_periods), last)
            case "took":
                open_periods.update(dict.fromkeys(note["fences"], note["at"]))
            case "let go":
                _end(record, open_periods, note["fences"], note["at"])
            case "heard":
                for connection_id in note["ids"]:
                    record.accepted[connection_id].append(note["at"])
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
    """Whether a gateway, asked to tell, said last that it had something left to say; it has if it never told."""
    reports = [note for line in path.read_text().splitlines() if (note := json.loads(line))["kind"] == "told"]
    return not reports or bool(reports[-1]["busy"])
