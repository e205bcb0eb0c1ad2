"""
The line `memory`: the peak resident size of a worker's processes while they handle messages of 1 MiB.

The messages contain orders, short frames, frames with the longest text that the contract allows, and failures with the
longest stack trace. The size of each process is polled all the time; memory that pool processes share with their
parent counts for each. No process may be replaced, and no message or item rejected.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Any

import psutil

from benchmarks.harness.bed import Bed, bed
from benchmarks.harness.depth import Depth
from benchmarks.harness.drain import emptied_at
from benchmarks.harness.figures import Figure, at_most
from benchmarks.harness.world import add_accounts, failed, orders, progressed
from console.embedded.servers import Services

MESSAGES = 10
"""Per kind."""

_MIB = 2**20

_TEXT, _TRACE = "x" * 20_000, "x" * 200_000

_ACCOUNTS, _CONNECTIONS, _LIVE = 50, 2500, 10_000

_FENCES = "SELECT connection_id, crawler_job_id FROM job_assignment_mapping ORDER BY 1, 2"


def measure(services: Services) -> Iterator[Figure]:
    """MiB of the pool processes, and of their parent."""
    with bed(services) as there:
        accounts = add_accounts(there, _ACCOUNTS)
        depth = Depth(there, f"n % {_ACCOUNTS}")
        depth.connect(_CONNECTIONS)
        depth.occupy(_LIVE, _CONNECTIONS)
        with there.workers():
            sizes = _Sizes()
            _publish_all(there, accounts)
            emptied_at(lambda: sizes.look() or there.publisher.waiting())
        if rejected := there.one("SELECT count(*) FROM rejected_message"):
            raise RuntimeError(f"{rejected} were rejected")
    for name, is_parent in (("a pool process", False), ("the parent process", True)):
        mebibytes = sizes.of(parents=is_parent)
        yield Figure(f"memory of {name}, 1 MiB messages", "MiB", mebibytes, aim=at_most(200))


def _publish_all(there: Bed, accounts: list[str]) -> None:
    """Push messages of all kinds in turn; the attempts that fail send no other frames."""
    live = there.rows(_FENCES)
    failing, running = live[:1000], live[1000:]
    short = (progressed(*order) for order in cycle(running))
    long = (progressed(*order, message=_TEXT) for order in cycle(running))
    failures = (failed(*order, trace=_TRACE) for order in failing)
    new = orders(accounts)
    for _ in range(MESSAGES):
        there.publisher.publish("jobs.submit", orders=_worth_a_message(new))
        for frames in (short, long, failures):
            there.publisher.publish("crawler.frames", frames=_worth_a_message(frames))


def _worth_a_message(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Take as many items as make a message of 1 MiB."""
    taken, size = [], 0
    for item in items:
        taken.append(item)
        size += len(json.dumps(item))
        if size >= _MIB:
            break
    return taken


class _Sizes:
    """The peak size so far of each process of the running workers."""

    def __init__(self) -> None:
        processes = [one for one in psutil.Process().children(recursive=True) if _is_a_worker(one)]
        self._greatest = dict.fromkeys(processes, 0)
        self._parents = {one for one in processes if one.parent() not in self._greatest}

    def look(self) -> None:
        """Update the peaks. Raises psutil.NoSuchProcess if a process was replaced."""
        for process, size in self._greatest.items():
            self._greatest[process] = max(size, process.memory_info().rss)

    def of(self, *, parents: bool) -> list[float]:
        """Return the peaks in MiB, of parents or of pool processes."""
        return [s / _MIB for one, s in self._greatest.items() if (one in self._parents) == parents]


def _is_a_worker(process: psutil.Process) -> bool:
    command = process.cmdline()
    return "worker" in command and "console.main" in command[:4]  # otherwise it is only a wrapper
