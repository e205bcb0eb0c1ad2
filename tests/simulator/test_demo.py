"""The demo: a short run succeeds, and its audit finds what is wrong."""

import json
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from subprocess import PIPE

import psycopg
import pytest

from console.demo import tied_process
from console.demo.audit import audit_demo
from console.simulator.order_log import OrderLog
from persistence.db.engine import engine

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["--jobs", "60", "--crawlers", "6", "--speed", "8", "--seed", "7", "--plain"]
TOKEN = "glpat-0123456789"


@pytest.mark.programs
def test_a_short_demo_succeeds(tmp_path: Path) -> None:
    """
    A crawler dies, one disconnects, one freezes and comes back, a gateway is killed: no job is lost or done twice.

    The audit fails if an attempt was lost whose crawler had neither died nor frozen.
    """
    summary_file = tmp_path / "summary.json"
    demo = subprocess.run(
        [sys.executable, "-m", "console.main", "demo", *OPTIONS, "--json", str(summary_file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    summary = json.loads(summary_file.read_text())
    assert summary["balanced"]
    assert summary["faults"] == []
    assert summary["ordered"] == 60
    assert summary["discovered"] > 0
    assert summary["finished"] + summary["failed"] + summary["cancelled"] == 60 + summary["discovered"]
    assert summary["fleet"]["undelivered"] <= summary["fleet"]["stale_said"]
    assert summary["fleet"]["undelivered"] + summary["stale_words"] > 0
    assert 0 < summary["fleet"]["links_resumed"] < summary["fleet"]["links"]
    assert "gateway-1 was killed with -9" in demo.stdout
    assert summary["restarts"] == 0
    assert summary["redacted"] == summary["fleet"]["tokens_said"]
    assert 0 < summary["tokens_died"] <= summary["fleet"]["tokens_died"]
    assert summary["tokens_renewed"] == 1
    assert (summary["fleet"]["died"], summary["fleet"]["left"], summary["fleet"]["came_back"]) == (1, 1, 1)
    assert "The audit found no fault" in demo.stdout
    assert (Path(summary["logs"]) / "worker.log").stat().st_size > 0


def test_the_wrapper_exits_with_its_programs_code() -> None:
    """The wrapper exits with its program, even while the parent still holds its input open."""
    program = [sys.executable, "-c", "raise SystemExit(3)"]
    with subprocess.Popen(
        [sys.executable, "-I", "-S", tied_process.__file__, "1", *program], stdin=PIPE
    ) as wrapper:
        assert wrapper.wait(60) == 3


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    """A connection to a database in which job A is finished, as it should be."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO account (id, access_token) VALUES ('acc', %s)", [TOKEN])
        job(connection, "A", "finished", "completed", "completed")
        yield connection


def job(connection: psycopg.Connection, id_: str, status: str, entry: str, *attempts: str) -> None:
    """Insert a job, its queue entry and its attempts, in these states."""
    connection.execute(
        'INSERT INTO job (id, status, command, full_path, "accountId") VALUES (%s, %s, %s, %s, %s)',
        [id_, status, "issues", f"group/{id_}", "acc"],
    )
    connection.execute(
        "INSERT INTO job_queue (id, web_app_job_id, account_id, status, settled_at)"
        " VALUES (%(id)s, %(id)s, 'acc', %(status)s,"
        " CASE WHEN %(status)s IN ('completed', 'failed') THEN now() END)",
        {"id": id_, "status": entry},
    )
    for n, attempt in enumerate(attempts):
        connection.execute(
            "INSERT INTO job_assignment_mapping (id, web_app_job_id, crawler_job_id, status, completed_at)"
            " VALUES (%(fence)s, %(job)s, %(fence)s, %(status)s,"
            " CASE WHEN %(status)s NOT IN ('assigned', 'running') THEN now() END)",
            {"job": id_, "fence": f"{id_}{n}", "status": attempt},
        )


def faults(connection: psycopg.Connection, *ordered: str) -> dict[str, list[str]]:
    """Audit the demo with an order log of these jobs; returns the faults."""
    return audited(OrderLog(submitted=set(ordered), tokens=[TOKEN]))


def audited(
    order_log: OrderLog, stale_fences: Collection[str] = (), **known: Collection[str]
) -> dict[str, list[str]]:
    """Audit the demo; returns the ids of the faults by name."""
    with engine().connect() as reader:
        found = audit_demo(reader, order_log, stale_fences, **known).faults
    return {fault.name: fault.ids for fault in found}


def test_a_consistent_demo_has_no_faults(connection: psycopg.Connection) -> None:
    """A job that was ordered, exists once and is finished is no fault."""
    assert faults(connection, "A") == {}


def test_a_missing_or_unordered_job_is_reported(connection: psycopg.Connection) -> None:
    """An ordered job that is missing is a fault, and so is a job that was not ordered."""
    assert faults(connection, "B") == {
        "ordered_job_exists": ["B"],
        "no_unexpected_job": ["A"],
    }


def test_a_discovery_must_create_exactly_its_jobs(connection: psycopg.Connection) -> None:
    """No job may be missing, none may be extra, and each area must be authorized for the account."""
    connection.execute("UPDATE job SET spawned_from = 'D', full_path = 'team' WHERE id = 'A'")
    job(connection, "D", "finished", "completed", "completed")
    order_log = OrderLog(
        submitted={"D"}, discovery="D", discovered={("team", "group"), ("team/tool", "issues")}
    )

    assert audited(order_log) == {
        "no_unexpected_job": ["A"],
        "discovered_job_exists": ["team group", "team/tool issues"],
        "discovered_area_authorized": ["team", "team/tool"],
    }


def test_a_job_completed_twice_is_reported(connection: psycopg.Connection) -> None:
    """A finished job must have been completed exactly once."""
    job(connection, "B", "finished", "completed", "completed", "completed")
    job(connection, "C", "finished", "completed")
    assert faults(connection, "A", "B", "C") == {"finished_once": ["B", "C"]}


def test_an_open_job_is_reported(connection: psycopg.Connection) -> None:
    """The job, its entry and its attempt must have ended; the attempt here also lacks a connection."""
    job(connection, "B", "running", "processing", "running")
    assert faults(connection, "A", "B") == {
        "every_job_ended": ["B"],
        "no_live_attempt": ["B"],
        "no_open_entry": ["B"],
        "live_attempt_connected": ["B0"],
        "live_attempts_counted": [" "],
        "order_of_live_attempt": ["B0"],
    }


def test_a_failure_without_its_error_is_reported(connection: psycopg.Connection) -> None:
    """Every failed job must have an error in the log."""
    job(connection, "B", "failed", "failed", "failed")
    assert faults(connection, "A", "B") == {
        "failed_job_has_error": ["B"],
    }


def test_a_token_in_an_error_is_reported(connection: psycopg.Connection) -> None:
    """A token may appear only in `account`."""
    connection.execute(
        "INSERT INTO job_error_log (id, job_id, error_type, error_message) VALUES ('E', 'A', 'HTTPError', %s)",
        [f"GET /?private_token={TOKEN}"],
    )
    assert faults(connection, "A") == {"no_former_token_in_errors": ["A"], "no_token_in_errors": ["E"]}


def test_stale_frames_of_an_expired_crawler_must_be_counted(connection: psycopg.Connection) -> None:
    """They must also change nothing; here they were not counted, and completed the attempt."""
    order_log = OrderLog(inserted={"A"})
    assert audited(order_log, ["A0"]) == {"stale_frames_counted": ["A"], "stale_frames_ignored": ["A"]}
    assert audited(order_log, ["A0"], undelivered_fences=["A0"]) == {"stale_frames_ignored": ["A"]}


def test_an_attempt_that_was_lost_without_its_crawler_is_reported(connection: psycopg.Connection) -> None:
    """Such as one whose gateway was killed; those of crawlers that died or froze are no fault."""
    connection.execute(
        "INSERT INTO job_error_log (id, job_id, error_type, error_message, context)"
        """ VALUES ('E', 'A', 'ConnectionLost', '', '{"connection_id": "C"}')"""
    )
    order_log = OrderLog(inserted={"A"})
    assert audited(order_log, gone_connections=["D"]) == {"lost_with_its_crawler": ["A"]}
    assert audited(order_log, gone_connections=["C"]) == audited(order_log) == {}
