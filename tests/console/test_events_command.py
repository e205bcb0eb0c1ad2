"""`crawlyard events`: one line per event. What follows events is run as a process: it exits cleanly."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.command import Run
from support.processes.programs import program
from support.processes.workers import PATIENCE_S, ROOT, wait_until
from support.worlds.readers import append
from support.worlds.world import World

COMMAND = [sys.executable, "-m", "console.main", "events"]

Lines = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def lines(run: Run) -> Lines:
    """Run the command to its end, and parse its lines."""

    def parse(*options: str) -> list[dict[str, Any]]:
        printed = run("events", *options)
        assert (printed.code, printed.err) == (0, "")
        return [json.loads(line) for line in printed.out.splitlines()]

    return parse


@contextmanager
def running(*options: str) -> Iterator["subprocess.Popen[str]"]:
    """Start the command, and kill it at the end."""
    with program([*COMMAND, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process


def jobs(found: list[dict[str, Any]]) -> list[str]:
    """Return the job ids of some lines."""
    return [line["job_id"] for line in found]


def until_it_listens(world: World) -> None:
    """Wait until a follower's session has finished its first read."""
    wait_until(
        lambda: world.scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crawlyard events'"
            " AND state = 'idle' AND query LIKE '%WITH edge AS%'"
        ),
        "a follower listens",
    )


def test_without_options_all_stored_events_are_printed(world: World, lines: Lines) -> None:
    """Each event is one JSON object with its cursor, and the command exits after the last."""
    (job_id,) = world.jobs(1)
    (line,) = lines()
    created_at = world.scalar("SELECT created_at FROM dispatch_event").isoformat()
    assert line.pop("cursor").count(":") == 2
    assert line == {
        "type": "job_created", "job_id": job_id, "account_id": "acc", "connection_id": None,
        "payload": {"existing": False}, "created_at": created_at,
    }  # fmt: skip


def test_printing_starts_after_a_cursor(database: str, lines: Lines) -> None:
    """--from takes the cursor of any line, beginning or now."""
    append(database, "a", "b", "c")
    everything = lines("--from", "beginning")
    assert jobs(everything) == ["a", "b", "c"]
    assert jobs(lines("--from", everything[0]["cursor"])) == ["b", "c"]
    assert lines("--from", "now") == lines("--from", everything[-1]["cursor"]) == []


def test_filters_and_the_limit_apply(database: str, lines: Lines) -> None:
    """Jobs and types may be repeated; --account and --limit take one value."""
    append(database, "a", "b", account="x")
    append(database, "a", kind="job_deleted", account="y")
    append(database, "c", kind="error_logged", account="x")
    assert jobs(lines("--account", "x")) == ["a", "b", "c"]
    assert jobs(lines("--job", "a", "--job", "c")) == ["a", "a", "c"]
    assert jobs(lines("--type", "job_deleted", "--type", "error_logged")) == ["a", "c"]
    assert jobs(lines("--limit", "2")) == ["a", "b"]


def test_a_gap_is_printed_as_its_own_line(database: str, lines: Lines) -> None:
    """The gap's line has the cursor from which reading continues."""
    append(database, "a")
    gap, event = lines("--from", "1234:1:1")
    assert gap == {"gap": True, "cursor": gap["cursor"]}
    assert (event["job_id"], lines("--from", gap["cursor"])) == ("a", [event])


WRONG = {
    ("--from", "then"): "a cursor is the text that came with an event, or beginning, or now",
    ("--type", "job_crated"): "there is no type 'job_crated'; there are job_created, ",
    ("--limit", "0"): "0 is not in the range",
}


@pytest.mark.parametrize("options", WRONG, ids=lambda options: options[0])
def test_a_wrong_option_is_reported(database: str, options: tuple[str, str], run: Run) -> None:
    """A wrong option is refused before anything is read."""
    said = run("events", *options)
    assert (said.code, said.out) == (2, "")
    assert WRONG[options] in said.err


def test_an_unmigrated_database_is_reported(empty_database: str, run: Run) -> None:
    """The error is one line that says what to do."""
    said = run("events")
    assert (said.code, said.out) == (2, "")
    assert said.err == "crawlyard: The database was never migrated: run `crawlyard migrate`.\n"


@pytest.mark.programs
def test_follow_prints_new_events_until_ctrl_c(world: World, database: str) -> None:
    """Only new events are printed, each without delay; Ctrl-C exits with 130 and prints nothing."""
    append(database, "old")
    with running("--follow") as process:
        until_it_listens(world)
        for _ in range(2):
            (job_id,) = world.jobs(1)
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["job_id"] == job_id
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out, err.strip()) == (130, "", "")
    wait_until(
        lambda: world.scalar("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crawlyard events'") == 0,
        "its session has ended",
    )  # fmt: skip


@pytest.mark.programs
def test_follow_survives_a_lost_connection(world: World) -> None:
    """The loss is reported on standard error, and no line is missing or printed twice."""
    with running("--follow", "--type", "job_created", "--limit", "3") as process:
        until_it_listens(world)
        first = world.jobs(1)
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        world.rows(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'crawlyard events'"
        )
        second = world.jobs(1)
        lines.append(process.stdout.readline())
        third = world.jobs(1)
        rest, complaint = process.communicate(timeout=PATIENCE_S)
    lines += rest.splitlines()
    assert jobs([json.loads(line) for line in lines]) == first + second + third
    assert process.returncode == 0
    (line,) = complaint.splitlines()
    assert line.startswith("crawlyard: The database cannot be used: ")
    assert line.endswith(" Trying again.")


@pytest.mark.programs
def test_a_closed_pipe_causes_no_error(world: World) -> None:
    """The command exits when it writes its next line."""
    reading, writing = os.pipe()
    with program([*COMMAND, "--follow"], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        until_it_listens(world)
        os.close(reading)
        world.jobs(1)
        assert process.communicate(timeout=PATIENCE_S) == (None, "")
        assert process.returncode == 1
