"""Progress in the database: one write per batch, losses cleared only by real progress, and the readers."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from persistence.db.engine import engine
from persistence.reports.job_progress import read_account_progress, read_jobs_progress, read_subtree_progress
from support.command import Run
from support.worlds.discoveries import PROJECT_COMMANDS, Discoverer, project
from support.worlds.world import World

PROGRESS = {"stage": "fetching", "entityType": "issue"}


def job_of(world: World, order: str) -> str:
    """The job of an order."""
    return str(
        world.scalar("SELECT web_app_job_id FROM job_assignment_mapping WHERE crawler_job_id = :o", o=order)
    )


def test_frames_of_many_jobs_are_written_in_one_statement(world: World) -> None:
    """One statement writes each job once, however many frames the message has about it."""
    crawler, orders = world.crawler_with_jobs(3)
    written = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if re.search(r"UPDATE job\s+SET", statement):
            written.append(statement)

    event.listen(engine(), "before_cursor_execute", note)
    try:
        world.sends(
            *(
                crawler.frame(kind, order, **data)
                for order in orders
                for kind, data in [("job_started", {})]
                + [("job_progress", PROGRESS | {"processed": n, "total": 9}) for n in range(1, 6)]
            )
        )
    finally:
        event.remove(engine(), "before_cursor_execute", note)

    assert len(written) == 1
    assert {world.job(job_of(world, order)).progress["counts"]["issue"] for order in orders} == {5}
    assert {world.job(job_of(world, order)).status for order in orders} == {"running"}


def test_a_late_resume_state_does_not_replace_a_newer_one(world: World) -> None:
    """Frames of one attempt may arrive out of order, in separate messages."""
    crawler, (order,) = world.crawler_with_jobs()
    early = crawler.frame("job_progress", order, **PROGRESS, processed=1, resumeState={"currentPage": 1})
    early["frame"]["timestamp"] = "2026-05-04T03:02:00Z"
    crawler.sends("job_progress", order, **PROGRESS, processed=2, resumeState={"currentPage": 2})

    world.sends(early)

    assert world.job(job_of(world, order)).resume_state == {"currentPage": 2}


def test_concurrent_frames_of_one_job_are_all_applied(world: World) -> None:
    """Workers with a message each about one attempt do not overwrite each other."""
    crawler, (order,) = world.crawler_with_jobs()
    frames = [
        crawler.frame("job_progress", order, **PROGRESS, processed=1, itemCounts={f"kind {n}": n})
        for n in range(1, 9)
    ]

    threads = [world.in_thread(partial(world.sends, frame)) for frame in frames]
    for thread in threads:
        thread.join()

    counts = world.job(job_of(world, order)).progress["counts"]
    assert counts == {"issue": 1} | {f"kind {n}": n for n in range(1, 9)}


def lose(world: World) -> None:
    """Make all crawlers silent, and sweep."""
    world.rows("UPDATE socket_connection SET last_heartbeat = now() - interval '1 hour' WHERE is_active")
    world.sweep()


def test_a_job_that_kills_its_crawlers_at_the_same_place_fails(world: World) -> None:
    """Repeating the same little progress does not clear its losses."""
    (job_id,) = world.jobs(1)
    for _ in range(5):
        crawler = world.crawler(capacity=1)
        world.assign()
        crawler.sends(
            "job_progress", *crawler.orders(), **PROGRESS, processed=1, resumeState={"currentPage": 1}
        )
        lose(world)

    assert world.job(job_id).status == "failed"
    assert world.entry(job_id).losses == 5


def test_a_job_that_gets_further_each_time_continues(world: World) -> None:
    """Something else must be killing its crawlers."""
    (job_id,) = world.jobs(1)
    for n in range(1, 8):
        crawler = world.crawler(capacity=1)
        world.assign()
        crawler.sends(
            "job_progress", *crawler.orders(), **PROGRESS, processed=1, resumeState={"currentPage": n}
        )
        lose(world)

    assert world.job(job_id).status == "queued"
    assert world.entry(job_id).losses == 1


def test_a_restarted_job_has_not_reached_its_best_yet(world: World) -> None:
    """When it is restarted with force, its first page counts as progress again."""
    crawler, (order,) = world.crawler_with_jobs()
    job_id = job_of(world, order)
    crawler.sends("job_progress", order, **PROGRESS, processed=9, total=10)
    crawler.sends("job_completed", order)
    world.submit(world.order(web_app_job_id=job_id, force=True))
    world.rows("UPDATE job_queue SET losses = 1")
    world.assign()

    crawler.sends("job_progress", *crawler.orders(), **PROGRESS, processed=1, total=10)

    assert world.entry(job_id).losses == 0
    assert world.job(job_id).progress["best"]["completion"] == 0.1


@pytest.fixture
def tree(world: World) -> Discoverer:
    """A discovery that has found one project: one child is running, one is finished, the others wait."""
    discoverer = Discoverer.at_work(world)
    discoverer.finds(project("a", 1))
    crawler = world.crawler(capacity=2)
    world.assign()
    first, second = crawler.orders()
    crawler.sends("job_progress", first, **PROGRESS, processed=5, total=10)
    crawler.sends("job_completed", second, finalCounts={"issue": 7})
    return discoverer


def test_a_subtree_is_shown_in_sums(world: World, tree: Discoverer) -> None:
    """It sums the root and all jobs spawned below it, at any depth, and no other jobs."""
    world.jobs(3)
    child = world.scalar("SELECT id FROM job WHERE command = :last", last=PROJECT_COMMANDS[-1])
    grandchild = world.insert_job(spawned_from=child)
    world.deliver("jobs.enqueue", job_ids=[grandchild])
    world.rows(
        "INSERT INTO deferred_job (id, account_id, command, full_path, priority, spawned_from)"
        " VALUES ('D1', 'acc', 'issues', 'b', 1, :root)",
        root=tree.job_id,
    )

    found = read_subtree_progress(tree.job_id)

    assert found is not None
    assert (found.root, found.jobs, found.deferred, found.items) == (tree.job_id, 7, 1, 12)
    assert found.by_status == {"queued": 4, "running": 2, "finished": 1}
    assert found.completion == pytest.approx((0.5 + 1.0) / 8)


def test_the_sql_in_the_contract_returns_the_same(world: World, tree: Discoverer) -> None:
    """The statement in docs/contract.md is for readers in other languages."""
    page = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")
    (statement,) = re.findall(r"^```sql\n(WITH RECURSIVE family.*?);\n```$", page, re.MULTILINE | re.DOTALL)

    rows = world.rows(re.sub(r"::(\w+)", r"\\:\\:\1", statement).replace("$1", ":root"), root=tree.job_id)

    found = read_subtree_progress(tree.job_id)
    assert found is not None
    assert {row.status: row.jobs for row in rows} == found.by_status
    assert sum(row.completed for row in rows) == pytest.approx(found.completion * found.jobs)


@pytest.mark.parametrize(
    "progress",
    ["5", "[1]", '{"completion": "half", "counts": 7}', '{"completion": 1e999, "counts": {"issue": "many"}}',
     '{"completion": -3, "counts": [1]}', '{"completion": null, "counts": {"issue": null}}'],
)  # fmt: skip
def test_an_odd_progress_value_of_the_web_app_does_not_hide_other_jobs(world: World, progress: str) -> None:
    """The job counts as far as its value can be read; reading many jobs never fails because of one."""
    (job_id,) = world.jobs(1)
    world.rows("UPDATE job SET progress = CAST(:progress AS jsonb)", progress=progress)

    found = read_subtree_progress(job_id)

    assert found is not None
    assert (found.jobs, found.items) == (1, 0)
    assert found.completion == (1.0 if "999" in progress else 0.0)
    assert [job.completion for job in read_account_progress("acc")] == [found.completion]


def test_a_cycle_of_ancestors_terminates(world: World) -> None:
    """The web app may write any ancestor."""
    a, b = world.jobs(2)
    world.rows(
        "UPDATE job_queue SET spawned_from = CASE web_app_job_id WHEN :a THEN :b ELSE :a END", a=a, b=b
    )

    found = read_subtree_progress(a)

    assert found is not None
    assert found.jobs == 2


def test_progress_is_read_for_one_job_many_or_an_account(world: World, tree: Discoverer) -> None:
    """Jobs come in id order, page by page, without those of other accounts."""
    world.account("other")
    world.submit(world.order(account_id="other"))
    mine = [id_ for (id_,) in world.rows("""SELECT id FROM job WHERE "accountId" = 'acc' ORDER BY id""")]

    assert [job.id for job in read_jobs_progress([mine[2], "none", mine[0]])] == [mine[0], mine[2]]
    first = read_account_progress("acc", limit=4)
    rest = read_account_progress("acc", after=first[-1].id)
    assert [job.id for job in first + rest] == mine
    (running,) = [job for job in first + rest if job.status == "running" and job.id != tree.job_id]
    assert (running.completion, running.progress["counts"]) == (0.5, {"issue": 5})
    assert read_subtree_progress("none") is None


def test_the_command_shows_jobs_and_trees(world: World, tree: Discoverer, run: Run) -> None:
    """It prints for people, and with --json for programs."""
    shown = run("progress", "--subtree", tree.job_id)
    assert shown.code == 0
    assert "25.0% of 6 jobs" in shown.out
    assert run("progress", "--subtree", tree.job_id, "--json").json["by_status"]["finished"] == 1
    (job,) = run("progress", "--job", tree.job_id, "--json").json
    assert (job["status"], job["progress"]["discovery"]["projects"]) == ("running", 1)
    assert "GROUP_PROJECT_DISCOVERY" in run("progress", "--account", "acc").out


def test_the_command_reports_missing_jobs_and_usage_errors(database: str, run: Run) -> None:
    """The exit code is 1 for a missing job and 2 for a usage error."""
    missing = run("progress", "--job", "none")
    assert (missing.code, missing.err) == (1, "There is no job none.\n")
    wrong = run("progress")
    assert wrong.code == 2
    assert "Give exactly one of --job, --account and --subtree" in wrong.err
