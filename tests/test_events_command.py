"""`crawlyard events`: JSON lines for whoever reads them, now or as they come."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from support.command import Run
from support.workers import until
from support.world import World

ROOT = Path(__file__).parents[1]


def lines(text: str) -> list[dict[str, object]]:
    """The objects of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_it_prints_what_is_kept(world: World, run: Run) -> None:
    """Each event whole, with the cursor from which reading goes on."""
    (job_id,) = world.jobs(1)
    world.crawler()

    printed = lines(run("events").out)

    assert [event["type"] for event in printed] == ["job_created", "connection_registered"]
    assert (printed[0]["job_id"], printed[0]["account_id"]) == (job_id, "acc")
    rest = lines(run("events", "--from", str(printed[0]["cursor"])).out)
    assert [event["type"] for event in rest] == ["connection_registered"]
    assert lines(run("events", "--from", "now").out) == []


def test_it_filters(world: World, run: Run) -> None:
    """By account, job and type, and ends after so many."""
    world.account("other")
    _, second = world.jobs(2)
    world.submit(world.order(account_id="other"))

    assert len(lines(run("events", "--account", "other").out)) == 1
    assert [e["job_id"] for e in lines(run("events", "--job", second, "--job", "none").out)] == [second]
    assert len(lines(run("events", "--type", "job_created", "--limit", "2").out)) == 2


def test_it_says_what_it_does_not_understand(world: World, run: Run) -> None:
    """Exit code 2, in one line."""
    wrong = run("events", "--type", "job_finished")
    assert (wrong.code, wrong.out) == (2, "")
    assert "there are no events job_finished; there are job_created" in wrong.err
    assert run("events", "--from", "yesterday").code == 2


def test_it_follows_until_it_is_interrupted(world: World) -> None:
    """Each line at once, also into a pipe."""
    process = subprocess.Popen(
        [sys.executable, "-m", "console.main", "events", "--follow", "--from", "now", "--type", "job_created"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        listening = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crawlyard events'"
        until(lambda: world.one(f"{listening} AND state = 'idle'"), "it listens")
        (job_id,) = world.jobs(1)
        assert json.loads(process.stdout.readline())["job_id"] == job_id
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()

    assert (process.returncode, out, err.strip()) == (130, "", "")
