"""`crawlyard audit`: its output, its exit codes, and that it only reads."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import make_url

from persistence.audit.audit import CHECKS, IDS_PER_FAULT
from support.command import Run
from support.engines import forget_engine
from support.processes.programs import program
from support.processes.workers import ROOT, wait_until
from support.worlds.world import World

READER = "a_reader_of_audits"


@pytest.fixture
def broken(world: World) -> str:
    """A connection whose list of active jobs contains a job that it has completed."""
    crawler, (order,) = world.crawler_with_jobs()
    crawler.sends("job_completed", order, success=True, finalCounts={})
    world.rows(
        "UPDATE socket_connection SET active_jobs = jsonb_build_array(CAST(:order AS text))", order=order
    )
    return crawler.id


@pytest.fixture
def reader(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the command connect as a role that may read everything and do nothing else."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{READER}'")
        admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}")
        url = make_url(database).set(username=READER, password=READER)
        monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
        forget_engine()
        yield
        forget_engine()
        admin.execute(f"DROP OWNED BY {READER}")
        admin.execute(f"DROP ROLE {READER}")


def test_a_clean_database_is_audited_check_by_check(world: World, run: Run) -> None:
    """The output is one line per check and a summary, and the exit code is 0."""
    world.crawler_with_jobs()

    output = run("audit")

    lines = output.out.splitlines()
    assert output.code == 0
    assert lines[:-1] == [f"ok   {name}" for name in CHECKS]
    assert lines[-1].startswith(f"{len(CHECKS)} checks as of ")
    assert lines[-1].endswith(": no faults.")


def test_a_fault_is_reported_with_its_ids(broken: str, run: Run) -> None:
    """The failed check lists the ids, the other checks pass, and the exit code is 1."""
    output = run("audit")

    failed = [line for line in output.out.splitlines() if not line.startswith("ok   ")]
    assert output.code == 1
    assert failed[0] == f"FAIL seats_counted: {CHECKS['seats_counted'].meaning} Violated by 1: {broken}"
    assert failed[1].endswith(": 1 fault.")
    assert len(failed) == 2


def test_the_first_ids_are_listed_and_the_rest_are_counted(world: World, run: Run) -> None:
    """Ids are listed in order, and the line stays short however many there are."""
    for _ in range(IDS_PER_FAULT + 2):
        world.insert_job()
    world.rows("INSERT INTO job_queue (id, web_app_job_id, account_id, status)"
               " SELECT id, id, 'acc', 'processing' FROM job")  # fmt: skip
    ids = [id_ for (id_,) in world.rows("SELECT id FROM job ORDER BY id")]

    output = run("audit", "--only", "processing_entry_attempted")

    assert f"Violated by {len(ids)}: {', '.join(ids[:IDS_PER_FAULT])} and 2 more\n" in output.out


def test_the_json_output_is_one_object(broken: str, run: Run) -> None:
    """It contains the checks that ran and the faults; the exit code is the same as without --json."""
    output = run("audit", "--json", "--only", "seats_counted", "--only", "one_live_attempt")

    assert output.code == 1
    assert output.json.keys() == {"taken_at", "seconds", "checks", "faults"}
    assert output.json["checks"] == ["seats_counted", "one_live_attempt"]
    meaning = CHECKS["seats_counted"].meaning
    assert output.json["faults"] == [
        {"name": "seats_counted", "meaning": meaning, "ids": [broken], "count": 1}
    ]


def test_only_the_requested_checks_run(broken: str, run: Run) -> None:
    """A fault that only another check would find does not appear."""
    output = run("audit", "--only", "one_live_attempt")

    assert output.code == 0
    assert output.out.splitlines()[0] == "ok   one_live_attempt"
    assert broken not in output.out


def test_an_unknown_check_is_a_usage_error(database: str, run: Run) -> None:
    """No check runs then."""
    output = run("audit", "--only", "one_live_attempt", "--only", "everything")

    assert (output.code, output.out) == (2, "")
    assert "there is no check 'everything'" in output.err


def test_the_checks_are_listed_without_a_database(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every check is listed with its meaning."""
    monkeypatch.delenv("DATABASE_URL", raising=False)

    assert run("audit", "--list", "--json").json == {name: c.meaning for name, c in CHECKS.items()}
    assert [line.split()[0] for line in run("audit", "--list").out.splitlines() if line[0] != " "] == [
        *CHECKS
    ]


def test_a_read_only_role_can_audit(broken: str, reader: None, run: Run) -> None:
    """The audit needs no privilege but SELECT."""
    output = run("audit", "--json")

    assert [fault["ids"] for fault in output.json["faults"]] == [[broken]]


def test_an_unmigrated_database_is_reported_in_one_line(empty_database: str, run: Run) -> None:
    """The line says what to do, and the exit code is 2."""
    output = run("audit")

    assert (output.code, output.out) == (2, "")
    assert output.err == "crawlyard: The database was never migrated: run `crawlyard migrate`.\n"


def test_an_interrupted_audit_leaves_no_query_behind(world: World, database: str) -> None:
    """Ctrl-C in the middle of a check exits with 130, prints nothing, and ends the query in the database."""
    with psycopg.connect(database) as admin:
        admin.execute("LOCK TABLE dispatch_event IN ACCESS EXCLUSIVE MODE")
        command = [sys.executable, "-m", "console.main", "audit"]
        with program(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as audit:
            world.wait_for_lock_waiter()
            audit.send_signal(signal.SIGINT)
            _, err = audit.communicate(timeout=30)
    assert (audit.returncode, err.strip()) == (130, "")
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%job_assigned%' AND pid <> pg_backend_pid()"
    )
    wait_until(lambda: world.scalar(waiting + " AND state = 'active'") == 0, "the query has ended")
