"""`crawlyard audit`: what it prints, how it ends, and that it only reads."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import make_url

from persistence.audit.audit import CHECKS, IDS_A_FAULT
from persistence.db.engine import engine
from support.command import Run
from support.processes.workers import ROOT, until
from support.worlds.world import World

READER = "a_reader_of_audits"


@pytest.fixture
def broken(world: World) -> str:
    """A connection that lists a job which it has completed."""
    crawler, (order,) = world.working()
    crawler.says("job_completed", order, success=True, finalCounts={})
    world.rows(
        "UPDATE socket_connection SET active_jobs = jsonb_build_array(CAST(:order AS text))", order=order
    )
    return crawler.id


@pytest.fixture
def reader(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """From now on the command connects as somebody who may read everything, and do nothing else."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{READER}'")
        admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}")
        url = make_url(database).set(username=READER, password=READER)
        monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
        _forget_engine()
        yield
        _forget_engine()
        admin.execute(f"DROP OWNED BY {READER}")
        admin.execute(f"DROP ROLE {READER}")


def _forget_engine() -> None:
    engine().dispose()
    engine.cache_clear()


def test_a_database_in_order_is_audited_check_by_check(world: World, run: Run) -> None:
    """One line a check, a sum, and exit code 0."""
    world.working()

    said = run("audit")

    lines = said.out.splitlines()
    assert said.code == 0
    assert lines[:-1] == [f"ok   {name}" for name in CHECKS]
    assert lines[-1].startswith(f"{len(CHECKS)} checks as of ")
    assert lines[-1].endswith(": no fault.")


def test_a_fault_is_named_with_its_ids(broken: str, run: Run) -> None:
    """The other checks are well, and the exit code is 1."""
    said = run("audit")

    failed = [line for line in said.out.splitlines() if not line.startswith("ok   ")]
    assert said.code == 1
    assert failed[0] == f"FAIL seats_counted: {CHECKS['seats_counted'].meaning} Not so: 1: {broken}"
    assert failed[1].endswith(": 1 fault.")
    assert len(failed) == 2


def test_the_first_ids_are_named_and_the_rest_is_counted(world: World, run: Run) -> None:
    """In order; however many there are, the line stays readable."""
    for _ in range(IDS_A_FAULT + 2):
        world.insert_job()
    world.rows("INSERT INTO job_queue (id, web_app_job_id, account_id, status)"
               " SELECT id, id, 'acc', 'processing' FROM job")  # fmt: skip
    ids = [id_ for (id_,) in world.rows("SELECT id FROM job ORDER BY id")]

    said = run("audit", "--only", "processing_entry_attempted")

    assert f"Not so: {len(ids)}: {', '.join(ids[:IDS_A_FAULT])} and 2 more\n" in said.out


def test_as_json_it_is_one_object(broken: str, run: Run) -> None:
    """With what was checked and what is wrong; the exit code is the same."""
    said = run("audit", "--json", "--only", "seats_counted", "--only", "one_live_attempt")

    assert said.code == 1
    assert said.json.keys() == {"taken_at", "seconds", "checks", "faults"}
    assert said.json["checks"] == ["seats_counted", "one_live_attempt"]
    meaning = CHECKS["seats_counted"].meaning
    assert said.json["faults"] == [{"name": "seats_counted", "meaning": meaning, "ids": [broken], "count": 1}]


def test_only_what_is_asked_for_is_checked(broken: str, run: Run) -> None:
    """A fault elsewhere is not seen."""
    said = run("audit", "--only", "one_live_attempt")

    assert said.code == 0
    assert said.out.splitlines()[0] == "ok   one_live_attempt"
    assert broken not in said.out


def test_a_check_that_is_not_there_is_a_wrong_request(database: str, run: Run) -> None:
    """Nothing is audited then."""
    said = run("audit", "--only", "one_live_attempt", "--only", "everything")

    assert (said.code, said.out) == (2, "")
    assert "there is no check 'everything'" in said.err


def test_the_checks_are_listed_without_a_database(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its meaning."""
    monkeypatch.delenv("DATABASE_URL", raising=False)

    assert run("audit", "--list", "--json").json == {name: c.meaning for name, c in CHECKS.items()}
    assert [line.split()[0] for line in run("audit", "--list").out.splitlines() if line[0] != " "] == [
        *CHECKS
    ]


def test_who_may_only_read_can_audit(broken: str, reader: None, run: Run) -> None:
    """No right to write is needed, nor used."""
    said = run("audit", "--json")

    assert [fault["ids"] for fault in said.json["faults"]] == [[broken]]


def test_a_database_that_was_never_migrated_is_said_in_one_line(empty_database: str, run: Run) -> None:
    """With what to do, and the exit code of a wrong request."""
    said = run("audit")

    assert (said.code, said.out) == (2, "")
    assert said.err == "crawlyard: The database was never migrated: run `crawlyard migrate`.\n"


def test_an_interrupted_audit_leaves_no_query_behind(world: World, database: str) -> None:
    """Ctrl-C in the middle of a check: exit code 130, not a word, and nobody at work in the database."""
    with psycopg.connect(database) as admin:
        admin.execute("LOCK TABLE dispatch_event IN ACCESS EXCLUSIVE MODE")
        audit = subprocess.Popen(
            [sys.executable, "-m", "console.main", "audit"],
            cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            world.until_somebody_waits_for_a_lock()
            audit.send_signal(signal.SIGINT)
            _, err = audit.communicate(timeout=30)
        finally:
            audit.kill()
            audit.wait()
    assert (audit.returncode, err.strip()) == (130, "")
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%job_assigned%' AND pid <> pg_backend_pid()"
    )
    until(lambda: world.one(waiting + " AND state = 'active'") == 0, "the query has ended")
