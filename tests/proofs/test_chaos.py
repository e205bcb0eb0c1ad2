"""A short chaos run with every kind of fault, and the verdict on a run."""

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
from proofs.chaos.accounting.silence import wrongly_expired
from proofs.chaos.accounting.verdict import Verdict, compute_verdict
from proofs.chaos.faults import FAULTS
from proofs.chaos.schedule import plan
from support.processes.programs import program
from support.processes.workers import ROOT, wait_until

SEED, SPAN_S, EVERY_S = 5, 21.0, 0.8
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


@pytest.mark.gate
@pytest.mark.programs
@pytest.mark.timeout(600)
def test_a_short_run_with_every_fault_ends_well(tmp_path: Path) -> None:
    """No job is lost or done twice, no connection expires wrongly, and no program crashes."""
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
    assert data["messages"].keys() >= {"delayed", "sent twice", "delivered twice"}
    assert chaos.stdout.startswith(f"seed {SEED}:")


@pytest.mark.gate
@pytest.mark.programs
@pytest.mark.timeout(300)
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C during the faults leaves neither a process nor a file."""
    with program(
        COMMAND, cwd=ROOT, env=ENVIRONMENT | {"TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE
    ) as chaos:
        assert chaos.stdout is not None
        for line in chaos.stdout:
            if any(fault in line for fault in FAULTS):
                break
        family = psutil.Process(chaos.pid).children(recursive=True)
        assert family
        chaos.send_signal(signal.SIGINT)
        assert chaos.wait(120) == 130
        wait_until(lambda: not any(member.is_running() for member in family), "all have ended")
    assert list(tmp_path.glob("crawlyard-*")) == []


def test_the_faults_follow_from_the_seed_alone() -> None:
    """The same seed gives the same plan, and another seed another plan."""
    assert plan(7, 60, tuple(FAULTS), 2) == plan(7, 60, tuple(FAULTS), 2)
    assert plan(7, 60, tuple(FAULTS), 2) != plan(8, 60, tuple(FAULTS), 2)


def test_faults_never_overlap_on_one_target() -> None:
    """Two faults never overlap on one target; faults on different targets do."""
    planned = plan(7, 300, tuple(FAULTS), 1)
    by_target: dict[str, list[tuple[float, float]]] = {}
    for one in planned:
        by_target.setdefault(one.injection.target, []).append((one.at, one.until))
    for spans in by_target.values():
        assert all(a[1] < b[0] for a, b in pairwise(spans))
    assert any(a.until > b.at for a in planned[1:] for b in planned[1:] if b.at > a.at)
    assert Counter(one.fault for one in planned).keys() == FAULTS.keys()


def test_one_kind_of_fault_can_be_selected() -> None:
    """A plan for one kind of fault contains no other."""
    assert {one.fault for one in plan(7, 60, ("redis killed",), 2)} == {"redis killed"}
    assert [one.fault for one in plan(7, 60, ("messages confused",), 2)] == ["messages confused"]


def evidence(*jobs: Job, attempts: tuple[Attempt, ...] = ()) -> Evidence:
    """Return evidence with these jobs and attempts."""
    return Evidence({job.id: job for job in jobs}, list(attempts))


def attempt(
    fence: str, job_id: str, status: str, assigned: float, closed: float | None, **values: object
) -> Attempt:
    """Return an attempt of a job on connection C."""
    return Attempt(fence, job_id, "C", status, assigned, closed, **values)  # type: ignore[arg-type]


def found(evidence: Evidence, *ordered: str, record: Record | None = None) -> dict[str, list[str]]:
    """Return what is wrong if these jobs were ordered."""
    verdict = compute_verdict(evidence, OrderLog(submitted=set(ordered)), record or Record())
    return {what: ids for what, ids in verdict.faults.items() if ids}


DONE = Job("A", "finished")
ONCE = attempt("F", "A", "completed", 1, 2)


def test_a_run_in_which_every_job_ran_once_passes() -> None:
    """A run without losses has no faults and no recovered jobs."""
    verdict: Verdict = compute_verdict(evidence(DONE, attempts=(ONCE,)), OrderLog(submitted={"A"}), Record())
    assert verdict.is_good
    assert (verdict.ordered, verdict.finished, verdict.recovered) == (1, 1, 0)


def test_a_missing_or_unfinished_job_is_reported_as_lost() -> None:
    """A job that does not exist and a job that has not ended are both lost."""
    assert found(evidence(DONE, Job("B", "running")), "A", "B", "C") == {"lost": ["B", "C"]}


def test_a_job_that_was_not_ordered_is_reported_as_unexpected() -> None:
    """A job that was neither ordered nor discovered is unexpected."""
    assert found(evidence(DONE, Job("B", "finished", spawned_from="A")), "A") == {"unexpected": ["B"]}


def test_a_discovered_job_is_expected_exactly_once() -> None:
    """Discovered jobs are known by path and command: a second one is unexpected, a missing one is lost."""
    order_log = OrderLog(submitted={"A"}, discovery="A", discovered={("g/p", "issues"), ("g/q", "issues")})
    twice = [Job(id_, "finished", "issues", "g/p", spawned_from="A") for id_ in ("B", "C")]
    verdict = compute_verdict(evidence(DONE, *twice), order_log, Record())
    assert (verdict.unexpected, verdict.lost) == (["C"], ["issues of g/q"])


def test_a_job_completed_twice_is_reported() -> None:
    """Two completed attempts of one job are reported."""
    again = attempt("G", "A", "completed", 3, 4)
    assert found(evidence(DONE, attempts=(ONCE, again)), "A") == {"completed twice": ["A"]}


@pytest.mark.parametrize(("closed", "wrong"), [(2.0, {}), (4.0, {"worked on twice": ["F"]})])
def test_two_concurrent_live_attempts_of_one_job_are_reported(closed: float, wrong: object) -> None:
    """Work on an attempt that was closed before the next one was assigned is only counted as stale."""
    attempts = (
        attempt("F", "A", "failed", 1, closed, error_type="ConnectionLost"),
        attempt("G", "A", "completed", 3, 6),
    )
    record = Record(work_periods=[WorkPeriod("F", 1, 5), WorkPeriod("G", 3, 6)])
    assert found(evidence(DONE, attempts=attempts), "A", record=record) == wrong
    verdict = compute_verdict(evidence(DONE, attempts=attempts), OrderLog(submitted={"A"}), record)
    assert verdict.stale_work == (not wrong)
    assert (verdict.recovered, verdict.losses) == (1, {"ConnectionLost": 1})


def test_a_stale_frame_that_was_applied_is_reported() -> None:
    """A frame of a crawler whose connection expired while it was frozen must not complete its attempt."""
    assert found(evidence(DONE, attempts=(ONCE,)), "A", record=Record(stale={"F"})) == {
        "changed by a stale frame": ["F"]
    }


def test_a_failed_job_without_a_reason_in_the_contract_is_reported() -> None:
    """Three failures, a permanent failure and five losses are reasons; two failures are not."""
    reasons = (
        Job("A", "failed", attempts=3),
        Job("B", "failed"),
        Job("C", "failed", losses=5),
        Job("D", "failed", attempts=2),
    )
    permanent = attempt("F", "B", "failed", 1, 2, error_type="NotFound", is_recoverable=False)
    assert found(evidence(*reasons, attempts=(permanent,)), "A", "B", "C", "D") == {
        "failed without a reason": ["D"]
    }


def test_a_rejected_message_is_reported() -> None:
    """A rejected message is a fault, except a registration of a closed connection."""
    there = evidence(DONE, attempts=(ONCE,))
    there.rejected = [
        Rejected("crawler.frames", "invalid", "why"),
        Rejected("connections.register", "connection_closed"),
    ]
    assert found(there, "A") == {"rejected": ["crawler.frames: invalid (why)"]}


def test_a_connection_that_expired_although_its_messages_arrived_is_reported() -> None:
    """A connection that was silent for a gap since its last heartbeat, or disconnected, did not expire wrongly."""
    closed = Connection("C", last_seen=100.0, closed=120.0)
    each_second = [90.0 + n for n in range(40)]
    assert wrongly_expired([closed], {"C": each_second}, {}, []) == {"C"}
    assert wrongly_expired([closed], {"C": [at for at in each_second if at < 115]}, {}, []) == set()
    assert wrongly_expired([closed], {"C": [at for at in each_second if not 105 < at < 110]}, {}, []) == set()
    assert wrongly_expired([closed], {}, {}, []) == set()
    assert (
        wrongly_expired([Connection("C", 100.0, 120.0, disconnected=True)], {"C": each_second}, {}, [])
        == set()
    )
    assert wrongly_expired([Connection("C", 100.0)], {"C": each_second}, {}, []) == set()


def test_a_connection_that_expired_although_its_gateway_answered_is_reported() -> None:
    """Unless something was wrong behind the gateway then, or its crawler lost its link and did not come back."""
    closed = Connection("C", last_seen=100.0, closed=120.0)
    answered = {"C": [90.0 + n for n in range(40)]}
    assert wrongly_expired([closed], {}, answered, []) == {"C"}
    assert wrongly_expired([closed], {}, answered, [(0.0, 90.0), (121.0, 130.0)]) == {"C"}
    assert wrongly_expired([closed], {}, answered, [(110.0, 111.0)]) == set()
    assert wrongly_expired([closed], {}, {"C": [101.0, 119.0]}, []) == set()
    assert wrongly_expired([Connection("C", 100.0, 120.0, lost=True)], {}, answered, []) == set()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a gateway's journal."""
    return tmp_path / "gateway.journal"


def test_the_journal_ends_the_work_of_a_killed_gateway(path: Path) -> None:
    """Work of a killed gateway ends at its last line; dropped attempts ended before."""
    first, second = Journal(path), Journal(path)
    first.write("started")
    first.write("took", fences=["F", "G"])
    first.write("let go", fences=["F"])
    first.write("accepted", ids=["C"], task="connections.heartbeat")
    second.write("started")
    second.write("took", fences=["H"])
    first.close()
    second.close()

    record = journal.read([path])

    assert [period.fence for period in record.work_periods] == ["F", "G", "H"]
    assert [period.ended for period in record.work_periods if period.fence == "G"] == record.accepted["C"]
