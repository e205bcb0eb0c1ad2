"""One run: everything is started, broken by plan, healed, left to settle, and reckoned up."""

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
from proofs.chaos.accounting.books import faults_of
from proofs.chaos.accounting.evidence import ENDED, Evidence, gather
from proofs.chaos.accounting.reckoning import Reckoning, reckon
from proofs.chaos.faults import FAULTS
from proofs.chaos.scale import OUTPOSTS
from proofs.chaos.schedule import Planned
from proofs.chaos.system.system import Load, Yard, yard
from tasks.routes import QUEUES

_TURN_S = 0.05
_LOOK_S = 2.0
_STILL_OPEN = """
    SELECT (SELECT count(*) FROM job WHERE status NOT IN ('finished', 'failed', 'cancelled')),
           (SELECT count(*) FROM job_assignment_mapping WHERE status IN ('assigned', 'running'))
"""
_OPENING_S = 60.0
Tell = Callable[[float, str], None]
"""Says what happens: seconds from the beginning, and a line."""


@dataclass(frozen=True)
class Outcome:
    """How a run went."""

    done: Counter[str]
    reckoning: Reckoning
    books: list[str]
    """What the audits found, a line each."""
    crashes: dict[str, int]
    """Programs that ended by themselves, and how often."""
    messages: dict[str, int]
    settled_s: float | None
    """From the last heal until everything had ended; None: not in time."""
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether all is well."""
        return self.reckoning.is_good and not self.books and not self.crashes and self.settled_s is not None


@dataclass(order=True)
class _Act:
    at: float
    number: int
    do: Callable[[], None] = field(compare=False)


def play(
    load: Load,
    planned: list[Planned],
    *,
    folder: Path,
    settling_s: float,
    tell: Tell,
    binaries: Path | None = None,
) -> Outcome:
    """Run it all."""
    begun = time.monotonic()
    with yard(load, folder, binaries) as there:
        play_ = _Play(there, planned, tell)
        play_.open()
        play_.break_everything()
        settled = play_.settle(settling_s)
        with closing(there.admin()) as admin:
            evidence = gather(admin)
            books = play_.books()
            (folder / "evidence.json").write_text(json.dumps(asdict(evidence)))
        crashes = {name: p.crashes for name, p in there.processes.items() if p.crashes}
        ledger = there.web_app.ledger
    record = journal.read([folder / f"{name}.journal" for name in (*OUTPOSTS, "web-app")])
    return Outcome(
        play_.done,
        reckon(evidence, ledger, record),
        books,
        crashes,
        dict(record.counts),
        settled,
        time.monotonic() - begun,
    )


class _Play:
    """The yard while it is broken and healed."""

    def __init__(self, there: Yard, planned: list[Planned], tell: Tell) -> None:
        self.done: Counter[str] = Counter()
        self._yard = there
        self._tell = tell
        self._begun = time.monotonic()
        self._number = count()
        self._acts = [self._act(one.at, self._doing(one)) for one in planned]
        heapq.heapify(self._acts)

    def open(self) -> None:
        """Wait until crawlers work; then the time of the faults begins."""
        deadline = time.monotonic() + _OPENING_S
        while time.monotonic() < deadline and not self._first_end():
            self._turn()
        self._begun = time.monotonic()

    def break_everything(self) -> None:
        """Do and heal all that is planned, one after another; what takes its time holds the others up."""
        while self._acts:
            if self._acts[0].at <= time.monotonic() - self._begun:
                heapq.heappop(self._acts).do()
            else:
                self._turn()

    def settle(self, patience: float) -> float | None:
        """
        Wait until every job has ended and everything was said; how long it took.

        None where nothing has ended for *patience* seconds: as long as jobs end, a slow machine is slow.
        """
        begun = ended_at = time.monotonic()
        still_open: Any = None
        self._say("all is healed")
        while time.monotonic() - ended_at < patience:
            if self._is_over() and not self.books():
                return time.monotonic() - begun
            if (now_open := self._still_open()) != still_open:
                still_open, ended_at = now_open, time.monotonic()
            self._rest()
        return None

    def books(self) -> list[str]:
        """What the audits find: the ledger's, then the database's own."""
        return faults_of(self._yard.services, self._yard.web_app.ledger)

    def _act(self, at: float, do: Callable[[], None]) -> _Act:
        return _Act(at, next(self._number), do)

    def _doing(self, one: Planned) -> Callable[[], None]:
        def do() -> None:
            fault = FAULTS[one.fault]
            note = fault.do(self._yard, one.blow)
            self.done[one.fault] += 1
            length = f" for {one.seconds:.1f} s" if one.seconds else ""
            self._say(f"{one.fault}: {one.blow.target}{length}" + (f", {note}" if note else ""))
            # After what was planned, however late it came: others of the same target are planned behind it.
            heapq.heappush(self._acts, self._act(one.until, lambda: fault.heal(self._yard, one.blow)))

        return do

    def _say(self, text: str) -> None:
        self._tell(time.monotonic() - self._begun, text)

    def _turn(self) -> None:
        time.sleep(_TURN_S)
        self._yard.keep_up()

    def _first_end(self) -> bool:
        with closing(self._yard.admin()) as admin:
            return bool(
                admin.execute("SELECT EXISTS (SELECT FROM job WHERE status = 'finished')").fetchone()[0]
            )  # type: ignore[index]

    def _rest(self) -> None:
        until = time.monotonic() + _LOOK_S
        while time.monotonic() < until:
            self._turn()

    def _still_open(self) -> int:
        """How many jobs have not ended; said, with what waits in the queues."""
        with closing(self._yard.admin()) as admin:
            jobs, attempts = admin.execute(_STILL_OPEN).fetchone() or (0, 0)
        waiting = ", ".join(f"{self._waiting(queue)} {queue}" for queue in QUEUES)
        self._say(f"{jobs} jobs and {attempts} attempts are open; messages wait: {waiting}")
        return int(jobs)

    def _is_over(self) -> bool:
        """Whether all has been ordered, all jobs have ended, and nothing waits to be said or heard."""
        there = self._yard
        if not there.web_app.is_done or there.mail.held_back or any(map(self._waiting, QUEUES)):
            return False
        with closing(there.admin()) as admin:
            evidence: Evidence = gather(admin)
        ledger = there.web_app.ledger
        expected = len(ledger.ordered) + len(ledger.discovered)
        return sum(job.status in ENDED for job in evidence.jobs.values()) >= expected and not any(
            self._busy()
        )

    def _waiting(self, queue: str) -> int:
        with closing(self._yard.broker()) as broker:
            return int(broker.llen(queue))

    def _busy(self) -> Iterator[bool]:
        """Whether the gateways have something to say yet, by their own word."""
        for name in OUTPOSTS:
            self._yard.order(name, "tell")
        time.sleep(0.5)
        for name in OUTPOSTS:
            yield journal.last_word(self._yard.folder / f"{name}.journal")
