"""One run: start everything, inject the planned faults and undo them, let the system settle, and judge it."""

import heapq
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from proofs.chaos.accounting import journal
from proofs.chaos.accounting.audits import faults_of
from proofs.chaos.accounting.evidence import ENDED, Evidence, gather
from proofs.chaos.accounting.verdict import Verdict, compute_verdict
from proofs.chaos.faults import FAULTS
from proofs.chaos.scale import DOORS, GATEWAYS
from proofs.chaos.schedule import PlannedFault
from proofs.chaos.system.system import CRAWLER_LINKS, ChaosSystem, Load, running_system
from tasks.routes import QUEUES

_TURN_S = 0.05
_LOOK_S = 2.0
_STILL_OPEN = """
    SELECT (SELECT count(*) FROM job WHERE status NOT IN ('finished', 'failed', 'cancelled')),
           (SELECT count(*) FROM job_assignment_mapping WHERE status IN ('assigned', 'running'))
"""
_OPENING_S = 60.0
_GATEWAYS_OWN = {*DOORS, *CRAWLER_LINKS, *GATEWAYS, "messages"}
"""Targets of faults that must cost no connection behind Crawlyard's gateways, as long as they answer its crawler."""
OnEvent = Callable[[float, str], None]
"""Receives each event: seconds from the start, and a line of text."""


@dataclass(frozen=True)
class Outcome:
    """The result of a run."""

    done: Counter[str]
    verdict: Verdict
    audit_faults: list[str]
    """The findings of the audits, a line each."""
    crashes: dict[str, int]
    """Programs that crashed, and how often."""
    messages: dict[str, int]
    settled_s: float | None
    """Seconds from the end of the last fault until everything had ended; None if it did not in time."""
    seconds: float

    @property
    def is_good(self) -> bool:
        """True if nothing is wrong."""
        return (
            self.verdict.is_good and not self.audit_faults and not self.crashes and self.settled_s is not None
        )


@dataclass(order=True)
class _Action:
    at: float
    number: int
    do: Callable[[], None] = field(compare=False)


def run_chaos(
    load: Load,
    planned: list[PlannedFault],
    *,
    folder: Path,
    settling_s: float,
    on_event: OnEvent,
    binaries: Path | None = None,
) -> Outcome:
    """Run the whole plan and judge the result."""
    begun = time.monotonic()
    with running_system(load, folder, binaries) as system:
        run = _Run(system, planned, on_event)
        run.open()
        run.inject_faults()
        settled = run.settle(settling_s)
        with closing(system.admin()) as admin:
            evidence = gather(admin)
            audit_faults = run.audit_faults()
            (folder / "evidence.json").write_text(json.dumps(asdict(evidence)))
        crashes = {name: p.crashes for name, p in system.processes.items() if p.crashes}
        order_log = system.web_app.order_log
    record = journal.read([folder / f"{name}.journal" for name in (*GATEWAYS, "web-app")])
    return Outcome(
        run.done,
        compute_verdict(evidence, order_log, record, run.excused),
        audit_faults,
        crashes,
        dict(record.counts),
        settled,
        time.monotonic() - begun,
    )


class _Run:
    """A system during its faults."""

    def __init__(self, system: ChaosSystem, planned: list[PlannedFault], on_event: OnEvent) -> None:
        self.done: Counter[str] = Counter()
        self.excused: list[tuple[float, float]] = []
        """When faults were injected that were not Crawlyard's gateways' or their links'; in seconds since 1970."""
        self._system = system
        self._on_event = on_event
        self._begun = time.monotonic()
        self._number = count()
        self._actions = [self._action(one.at, self._injecting(one)) for one in planned]
        heapq.heapify(self._actions)

    def open(self) -> None:
        """Wait until a job has finished; then the time of the faults starts."""
        deadline = time.monotonic() + _OPENING_S
        while time.monotonic() < deadline and not self._has_first_finished():
            self._step()
        self._begun = time.monotonic()

    def inject_faults(self) -> None:
        """Inject and undo all planned faults, one after another; a slow one delays the others."""
        while self._actions:
            if self._actions[0].at <= time.monotonic() - self._begun:
                heapq.heappop(self._actions).do()
            else:
                self._step()

    def settle(self, patience: float) -> float | None:
        """
        Wait until every job has ended and every message was sent; return the seconds it took.

        None if no job has ended for *patience* seconds. While jobs end, the machine is only slow.
        """
        begun = ended_at = time.monotonic()
        still_open: Any = None
        self._print("all faults are undone")
        while time.monotonic() - ended_at < patience:
            if self._is_over() and not self.audit_faults():
                return time.monotonic() - begun
            if (now_open := self._count_open()) != still_open:
                still_open, ended_at = now_open, time.monotonic()
            self._pause()
        return None

    def audit_faults(self) -> list[str]:
        """Return the findings of the audits, of the order log and of the database."""
        return faults_of(self._system.services, self._system.web_app.order_log)

    def _action(self, at: float, do: Callable[[], None]) -> _Action:
        return _Action(at, next(self._number), do)

    def _injecting(self, one: PlannedFault) -> Callable[[], None]:
        def do() -> None:
            fault = FAULTS[one.fault]
            note = fault.inject(self._system, one.injection)
            self.done[one.fault] += 1
            if one.injection.target not in _GATEWAYS_OWN:
                self.excused.append((time.time(), time.time() + one.seconds))
            length = f" for {one.seconds:.1f} s" if one.seconds else ""
            self._print(f"{one.fault}: {one.injection.target}{length}" + (f", {note}" if note else ""))
            # Never before its planned end: later faults of the same target are planned after that.
            heapq.heappush(
                self._actions, self._action(one.until, lambda: fault.undo(self._system, one.injection))
            )

        return do

    def _print(self, text: str) -> None:
        self._on_event(time.monotonic() - self._begun, text)

    def _step(self) -> None:
        time.sleep(_TURN_S)
        self._system.restart_crashed()

    def _has_first_finished(self) -> bool:
        with closing(self._system.admin()) as admin:
            return bool(
                admin.execute("SELECT EXISTS (SELECT FROM job WHERE status = 'finished')").fetchone()[0]
            )  # type: ignore[index]

    def _pause(self) -> None:
        until = time.monotonic() + _LOOK_S
        while time.monotonic() < until:
            self._step()

    def _count_open(self) -> int:
        """Return how many jobs have not ended, and log that with the lengths of the queues."""
        with closing(self._system.admin()) as admin:
            jobs, attempts = admin.execute(_STILL_OPEN).fetchone() or (0, 0)
        waiting = ", ".join(f"{self._waiting(queue)} {queue}" for queue in QUEUES)
        self._print(f"{jobs} jobs and {attempts} attempts are open; messages wait: {waiting}")
        return int(jobs)

    def _is_over(self) -> bool:
        """Return True if everything was ordered, all jobs have ended, and no message waits anywhere."""
        system = self._system
        if not system.web_app.is_done or system.publisher.pending or any(map(self._waiting, QUEUES)):
            return False
        with closing(system.admin()) as admin:
            evidence: Evidence = gather(admin)
        order_log = system.web_app.order_log
        expected = len(order_log.ordered) + len(order_log.discovered)
        return sum(job.status in ENDED for job in evidence.jobs.values()) >= expected and not any(
            self._busy()
        )

    def _waiting(self, queue: str) -> int:
        with closing(self._system.broker()) as broker:
            return int(broker.llen(queue))

    def _busy(self) -> Iterator[bool]:
        """Yield for each gateway whether it reports that it still has something to send."""
        for name in GATEWAYS:
            self._system.order(name, "report")
        time.sleep(0.5)
        for name in GATEWAYS:
            yield journal.is_busy(self._system.folder / f"{name}.journal")
