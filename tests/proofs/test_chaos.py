"""Chaos in short: every kind of fault once, and the reckoning finds what is wrong."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from console.simulator.order_log import OrderLog
from proofs.chaos.accounting import journal
from proofs.chaos.accounting.evidence import Attempt, Connection, Evidence, Job, Rejected
from proofs.chaos.accounting.journal import Journal, Record, WorkPeriod
from proofs.chaos.accounting.reckoning import Verdict, compute_verdict
from proofs.chaos.accounting.silence import wrongly_expired
from proofs.chaos.faults import FAULTS
from proofs.chaos.schedule import plan
from support.processes.programs import program
from support.processes.workers import ROOT, wait_until

SEED, SPAN_S, EVERY_S = 4, 21.0, 0.9
COMMAND = [
    sys.executable,
    "-m",
    "proofs.chaos",
    "--seed",
    str(SEED),
    "--minutes",
    str(SPAN_S / 60),
    "--every",
    str(EVERY_S),
]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "tests"), "PYTHONUNBUFFERED": "1"}


@pytest.mark.timeout(600)
def test_a_short_run_with_every_fault_ends_well(tmp_path: Path) -> None:
    """Nothing is lost, nothing done twice, nobody wrongly declared dead; and no program ended by itself."""
    result = tmp_path / "result.json"
    chaos = subprocess.run(
        [*COMMAND, "--json", str(result)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert chaos.returncode == 0, chaos.stdout
    data = json.loads(result.read_text())
    assert data["faults_done"].keys() == FAULTS.keys()
    assert data["ended"] == data["ordered"] + data["discovered"] > 0
    assert data["wrong"] == {}
    assert data["books"] == []
    assert data["crashes"] == {}
    assert data["recovered"] > 0
    assert data["losses"]["ConnectionLost"] > 0
    assert data["messages"].keys() >= {"held back", "said twice", "delivered twice"}
    assert chaos.stdout.startswith(f"seed {SEED}:")


@pytest.mark.timeout(300)
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither a process nor a file, in the midst of the faults."""
    with program(
        COMMAND, cwd=ROOT, env=ENVIRONMENT | {"TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE
    ) as chaos:
        assert chaos.stdout is not None
        for line in chaos.stdout:
            if "messages confused" in line:
                break
        family = psutil.Process(chaos.pid).children(recursive=True)
        assert family
        chaos.send_signal(signal.SIGINT)
        assert chaos.wait(120) == 130
        wait_until(lambda: not any(member.is_running() for member in family), "all have ended")
    assert list(tmp_path.glob("crawlyard-*")) == []


def test_the_faults_follow_from_the_seed_alone() -> None:
    """The same seed gives the same plan, another gives another."""
    assert plan(7, 60, tuple(FAULTS), 2) == plan(7, 60, tuple(FAULTS), 2)
    assert plan(7, 60, tuple(FAULTS), 2) != plan(8, 60, tuple(FAULTS), 2)


def test_faults_never_overlap_on_one_target() -> None:
    """A server that is stopped is not stopped again; faults on different targets overlap."""
    planned = plan(7, 300, tuple(FAULTS), 1)
    by_target: dict[str, list[tuple[float, float]]] = {}
    for one in planned:
        by_target.setdefault(one.injection.target, []).append((one.at, one.until))
    for spans in by_target.values():
        assert all(a[1] < b[0] for a, b in pairwise(spans))
    assert any(a.until > b.at for a in planned[1:] for b in planned[1:] if b.at > a.at)
    assert Counter(one.fault for one in planned).keys() == FAULTS.keys()


def test_one_kind_of_fault_can_be_selected() -> None:
    """Then there is no other."""
    assert {one.fault for one in plan(7, 60, ("redis killed",), 2)} == {"redis killed"}
    assert [one.fault for one in plan(7, 60, ("messages confused",), 2)] == ["messages confused"]


def evidence(*jobs: Job, attempts: tuple[Attempt, ...] = ()) -> Evidence:
    """What the database says."""
    return Evidence({job.id: job for job in jobs}, list(attempts))


def attempt(
    fence: str, job_id: str, status: str, assigned: float, closed: float | None, **values: object
) -> Attempt:
    """An attempt of a job on a connection C."""
    return Attempt(fence, job_id, "C", status, assigned, closed, **values)  # type: ignore[arg-type]


def found(evidence: Evidence, *ordered: str, record: Record | None = None) -> dict[str, list[str]]:
    """What is wrong where these were ordered."""
    reckoning = compute_verdict(evidence, OrderLog(submitted=set(ordered)), record or Record())
    return {what: ids for what, ids in reckoning.faults.items() if ids}


DONE = Job("A", "finished")
ONCE = attempt("F", "A", "completed", 1, 2)


def test_a_run_in_which_every_job_ran_once_passes() -> None:
    """No fault, and nothing was recovered."""
    reckoning: Verdict = compute_verdict(
        evidence(DONE, attempts=(ONCE,)), OrderLog(submitted={"A"}), Record()
    )
    assert reckoning.is_good
    assert (reckoning.ordered, reckoning.finished, reckoning.recovered) == (1, 1, 0)


def test_a_missing_or_unfinished_job_is_reported_as_lost() -> None:
    """Whichever of the two."""
    assert found(evidence(DONE, Job("B", "running")), "A", "B", "C") == {"lost": ["B", "C"]}


def test_a_job_that_was_not_ordered_is_reported_as_unexpected() -> None:
    """Nor discovered."""
    assert found(evidence(DONE, Job("B", "finished", spawned_from="A")), "A") == {"unexpected": ["B"]}


def test_a_discovered_job_is_expected_exactly_once() -> None:
    """By its path and command."""
    order_log = OrderLog(submitted={"A"}, discovery="A", discovered={("g/p", "issues"), ("g/q", "issues")})
    twice = [Job(id_, "finished", "issues", "g/p", spawned_from="A") for id_ in ("B", "C")]
    reckoning = compute_verdict(evidence(DONE, *twice), order_log, Record())
    assert (reckoning.unexpected, reckoning.lost) == (["C"], ["issues of g/q"])


def test_a_job_completed_twice_is_reported() -> None:
    """Two attempts of one lifetime."""
    again = attempt("G", "A", "completed", 3, 4)
    assert found(evidence(DONE, attempts=(ONCE, again)), "A") == {"completed twice": ["A"]}


@pytest.mark.parametrize(("closed", "wrong"), [(2.0, {}), (4.0, {"worked on twice": ["F"]})])
def test_two_concurrent_live_attempts_of_one_job_are_reported(closed: float, wrong: object) -> None:
    """Work on an attempt that was closed before the next one began is stale, which is known and counted."""
    attempts = (
        attempt("F", "A", "failed", 1, closed, error_type="ConnectionLost"),
        attempt("G", "A", "completed", 3, 6),
    )
    record = Record(work_periods=[WorkPeriod("F", 1, 5), WorkPeriod("G", 3, 6)])
    assert found(evidence(DONE, attempts=attempts), "A", record=record) == wrong
    reckoning = compute_verdict(evidence(DONE, attempts=attempts), OrderLog(submitted={"A"}), record)
    assert reckoning.stale_work == (not wrong)
    assert (reckoning.recovered, reckoning.losses) == (1, {"ConnectionLost": 1})


def test_a_stale_frame_that_was_applied_is_reported() -> None:
    """Of a crawler that had slept through the end of its connection."""
    assert found(evidence(DONE, attempts=(ONCE,)), "A", record=Record(stale={"F"})) == {
        "changed by a stale word": ["F"]
    }


def test_a_failed_job_without_a_reason_in_the_contract_is_reported() -> None:
    """Three reports, one that is for good, five losses; two reports are none."""
    reasons = (
        Job("A", "failed", attempts=3),
        Job("B", "failed"),
        Job("C", "failed", losses=5),
        Job("D", "failed", attempts=2),
    )
    for_good = attempt("F", "B", "failed", 1, 2, error_type="NotFound", is_recoverable=False)
    assert found(evidence(*reasons, attempts=(for_good,)), "A", "B", "C", "D") == {
        "failed without a reason": ["D"]
    }


def test_a_rejected_message_is_reported() -> None:
    """But for a registration that came after the end of its connection."""
    there = evidence(DONE, attempts=(ONCE,))
    there.rejected = [
        Rejected("crawler.frames", "invalid", "why"),
        Rejected("connections.register", "connection_closed"),
    ]
    assert found(there, "A") == {"rejected": ["crawler.frames: invalid (why)"]}


def test_a_connection_that_expired_although_its_messages_arrived_is_reported() -> None:
    """One that was silent for a gap, at any time since its last word that was counted, or said goodbye, was not."""
    closed = Connection("C", last_seen=100.0, closed=120.0)
    each_second = [90.0 + n for n in range(40)]
    assert wrongly_expired([closed], {"C": each_second}) == {"C"}
    assert wrongly_expired([closed], {"C": [word for word in each_second if word < 115]}) == set()
    assert wrongly_expired([closed], {"C": [word for word in each_second if not 105 < word < 110]}) == set()
    assert wrongly_expired([closed], {}) == set()
    assert wrongly_expired([Connection("C", 100.0, 120.0, disconnected=True)], {"C": each_second}) == set()
    assert wrongly_expired([Connection("C", 100.0)], {"C": each_second}) == set()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a gateway keeps its journal."""
    return tmp_path / "gateway.journal"


def test_the_journal_ends_the_work_of_a_killed_gateway(path: Path) -> None:
    """As of its last line; what it let go had ended before."""
    first, second = Journal(path), Journal(path)
    first.write("born")
    first.write("took", fences=["F", "G"])
    first.write("let go", fences=["F"])
    first.write("heard", ids=["C"], task="connections.heartbeat")
    second.write("born")
    second.write("took", fences=["H"])
    first.close()
    second.close()

    record = journal.read([path])

    assert [stint.fence for stint in record.work_periods] == ["F", "G", "H"]
    assert [stint.ended for stint in record.work_periods if stint.fence == "G"] == record.accepted["C"]
