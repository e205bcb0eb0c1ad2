"""Jobs that ended long ago are deleted with their dependent rows, unless there is a reason to keep them."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from persistence.db.engine import engine
from persistence.jobs import jobs
from persistence.maintenance import old_jobs as statements
from support.worlds.ages import clean_up, deleted, ended, left, somebody
from support.worlds.world import World

ENDED = ("finished", "failed", "cancelled")

ERROR = "INSERT INTO job_error_log (id, job_id, error_type, error_message, timestamp) VALUES ('e', :id, 'x', '', {})"

ATTEMPT = """
    INSERT INTO job_assignment_mapping (id, web_app_job_id, crawler_job_id, status, completed_at)
    VALUES ('a', :id, 'fence', :status, CASE WHEN :status = 'completed' THEN now() END)
"""

CHILD = """
    WITH child AS (INSERT INTO job (id, "accountId", command, full_path, spawned_from, status)
                   VALUES ('child', 'acc', 'issues', 'child', :id, :job) RETURNING id, spawned_from)
    INSERT INTO job_queue (id, web_app_job_id, account_id, status, held, spawned_from, settled_at)
    SELECT id, id, 'acc', :entry, :held, spawned_from, CASE WHEN :entry = 'completed' THEN now() END FROM child
"""

DEFERRED = """
    INSERT INTO deferred_job (id, account_id, graphql_url, command, full_path, priority, spawned_from)
    VALUES ('child', 'acc', 'url', 'issues', 'child', 1, :id)
"""

SET_STATUS = "UPDATE job SET status = '{}' WHERE id = :id"

SETTLE_CHILD = (
    "UPDATE job_queue SET status = 'completed', held = false, settled_at = now() WHERE id = 'child'"
)

REASONS: dict[str, tuple[str, dict[str, Any], str]] = {
    # reason: (the statement that gives a job this reason, its values, the statement that removes the reason)
    "the web app has queued it again": (SET_STATUS.format("queued"), {}, SET_STATUS.format("finished")),
    "the web app has set it to running": (SET_STATUS.format("running"), {}, SET_STATUS.format("finished")),
    "the web app has a status that we do not know": (
        SET_STATUS.format("archived"),
        {},
        SET_STATUS.format("finished"),
    ),
    "its command is the web app's own": (
        "UPDATE job SET command = 'authorizationScope' WHERE id = :id",
        {},
        "UPDATE job SET command = 'issues' WHERE id = :id",
    ),
    "it is older than the adoption": (
        "UPDATE adoption SET adopted_from = now()",
        {},
        "UPDATE adoption SET adopted_from = NULL",
    ),
    "it has a live attempt": (
        ATTEMPT,
        {"status": "running"},
        "UPDATE job_assignment_mapping SET status = 'failed', completed_at = now()",
    ),
    "a child waits": (CHILD, {"job": "queued", "entry": "pending", "held": False}, SETTLE_CHILD),
    "a child is parked": (CHILD, {"job": "paused", "entry": "pending", "held": True}, SETTLE_CHILD),
    "a child is running": (CHILD, {"job": "running", "entry": "processing", "held": False}, SETTLE_CHILD),
    "a child is deferred": (DEFERRED, {}, "DELETE FROM deferred_job"),
    "it has a recent error": (
        ERROR.format("now() - interval '30 days -1 hour'"),
        {},
        "UPDATE job_error_log SET timestamp = now() - interval '30 days 1 hour'",
    ),
}


def clean_up_a_week_later(world: World) -> None:
    """Clean up, a week after the last run."""
    world.rows("UPDATE job_queue SET kept_at = kept_at - interval '7 days 1 hour'")
    clean_up(world)


@pytest.mark.parametrize("status", ENDED)
def test_a_job_is_deleted_after_its_retention(world: World, status: str) -> None:
    """7 days after its entry settled and not an hour earlier, with one event."""
    (old,), (young,) = ended(world, status=status), ended(world, status=status, hours=-1)

    clean_up(world)

    assert left(world) == {young}
    (event,) = world.events("job_deleted")
    assert (event.job_id, event.account_id, event.connection_id, event.payload) == (old, "acc", None, {})
    assert world.entry(young).kept_at is None
    assert (world.published.messages, world.rejections()) == ([], [])


def test_deleting_a_job_deletes_its_dependants(world: World) -> None:
    """Its entry, attempts, old errors and links to areas; the areas and the rows of other jobs stay."""
    old, young = world.submit(*(world.order(entity_id=n, namespace_path=n) for n in ("1", "2")))
    crawler = world.crawler(capacity=2)
    world.assign()
    world.sends(*(crawler.frame("job_completed", order, success=True) for order in crawler.orders()))
    for job_id in (old, young):
        world.rows(ERROR.format("now() - interval '31 days'").replace("'e'", ":id"), id=job_id)
    world.rows(
        "UPDATE job_queue SET settled_at = now() - interval '8 days' WHERE web_app_job_id = :id", id=old
    )

    clean_up(world)

    assert left(world) == {young}
    for table, job_id in (
        ("job_queue", "web_app_job_id"),
        ("job_assignment_mapping", "web_app_job_id"),
        ("job_area", '"jobId"'),
    ):
        assert world.rows(f"SELECT {job_id} FROM {table}") == [(young,)]
    assert world.rows("SELECT job_id FROM job_error_log") == []
    assert world.scalar("SELECT count(*) FROM area") == 2


def test_jobs_without_an_entry_are_kept_whatever_their_age(world: World) -> None:
    """These jobs belong to the web app: its own, and those that it ended before they were queued."""
    own = world.insert_job(command="authorizationScope", full_path=None, status="finished")
    theirs = [world.insert_job(status=status) for status in ENDED]
    world.rows(
        "UPDATE job SET created_at = now() - interval '1 year', finished_at = now() - interval '1 year'"
    )

    clean_up(world)

    assert left(world) == {own, *theirs}
    assert deleted(world) == set()


@pytest.mark.parametrize("reason", REASONS)
def test_each_single_reason_keeps_a_job(world: World, reason: str) -> None:
    """The job beside it is deleted; it is examined again a week later, and deleted when the reason is gone."""
    make, values, undo = REASONS[reason]
    (kept,) = ended(world)
    (neighbour,) = ended(world) if "older than the adoption" not in reason else ("none",)
    world.rows(make, **({"id": kept} if ":id" in make else {}), **values)

    clean_up(world)
    assert kept in left(world)
    assert neighbour not in left(world)
    kept_at = world.entry(kept).kept_at
    assert kept_at is not None

    clean_up_a_week_later(world)
    assert kept in left(world)
    assert world.entry(kept).kept_at > kept_at - world.scalar("SELECT interval '1 minute'")

    world.rows(undo, **({"id": kept} if ":id" in undo else {}))
    clean_up(world)
    assert kept in left(world), "it is not looked at before its time"
    clean_up_a_week_later(world)
    assert kept not in left(world)
    assert deleted(world) == {kept, neighbour} - {"none"}


def test_ended_children_do_not_keep_their_parent(world: World) -> None:
    """They still name the deleted job in spawned_from."""
    (parent,) = ended(world)
    world.rows(CHILD, id=parent, job="finished", entry="completed", held=False)

    clean_up(world)

    assert left(world) == {"child"}
    assert world.job("child").spawned_from == parent


def test_the_age_of_a_job_starts_at_its_last_settlement(world: World) -> None:
    """The earlier kept_at does not count."""
    (job_id,) = ended(world, hours=-1)
    world.rows("UPDATE job_queue SET kept_at = now() - interval '30 days'")

    clean_up(world)

    assert left(world) == {job_id}
    assert world.entry(job_id).kept_at < world.scalar("SELECT now() - interval '29 days'")


def test_kept_jobs_do_not_block_other_deletions(world: World) -> None:
    """Also if more kept jobs come first than a transaction examines."""
    kept = ended(world, 1001, hours=10)
    world.rows("UPDATE job SET status = 'queued'")
    old = ended(world, 2)

    clean_up(world)
    assert world.scalar("SELECT count(*) FROM job_queue WHERE kept_at IS NOT NULL") == 1000
    assert (deleted(world), world.published.messages) == (set(), [("upkeep.clean_up", {"more": True})])

    world.published.messages.clear()
    world.deliver("upkeep.clean_up", more=True)
    assert deleted(world) == set(old)
    assert left(world) == set(kept)
    assert world.published.messages == []


def test_one_chunk_deletes_a_thousand_jobs_and_publishes_another(world: World) -> None:
    """The oldest first; a message delivered again deletes nothing that should stay."""
    older, old, young = ended(world, 1000, hours=10), ended(world, 3), ended(world, 1, hours=-1)

    clean_up(world)
    assert left(world) == {*old, *young}
    assert world.published.messages == [("upkeep.clean_up", {"more": True})]

    for _ in range(3):
        world.published.messages.clear()
        world.deliver("upkeep.clean_up", "the same message", more=True)
        assert world.published.messages == []
    assert left(world) == set(young)
    assert deleted(world) == {*older, *old}


def test_a_slow_chunk_leaves_the_rest_for_later(world: World, monkeypatch: Any) -> None:
    """The web app's tables may make deletions expensive, so that locks would be held too long."""
    monkeypatch.setattr("tasks.maintenance.old_jobs.TIME_LIMIT_S", 0.0)
    monkeypatch.setattr("tasks.maintenance.old_jobs.DELETE_CHUNK", 2)
    ended(world, 3)

    clean_up(world)
    assert (len(left(world)), len(deleted(world))) == (1, 2)
    assert world.published.messages == [("upkeep.clean_up", {"more": True})]

    world.published.messages.clear()
    world.deliver("upkeep.clean_up", more=True)
    assert (len(left(world)), len(deleted(world))) == (0, 3)
    assert world.published.messages == []


def test_a_job_referenced_by_the_web_app_is_kept_alone(world: World) -> None:
    """If the foreign key does not cascade, the job stays and is examined again a week later."""
    fast, *others = ended(world, 5)
    world.rows("CREATE TABLE result (job_id text REFERENCES job (id))")
    try:
        world.rows("INSERT INTO result VALUES (:id)", id=fast)
        clean_up(world)
        assert left(world) == {fast}
        assert deleted(world) == set(others)
        assert world.entry(fast).kept_at is not None

        world.rows("DELETE FROM result")
        clean_up_a_week_later(world)
        assert left(world) == set()
    finally:
        world.rows("DROP TABLE result")


HOLDERS = {
    "entry": "SELECT FROM job_queue WHERE web_app_job_id = :id FOR NO KEY UPDATE",
    "attempt": "SELECT FROM job_assignment_mapping WHERE web_app_job_id = :id FOR NO KEY UPDATE",
    "old error": "SELECT FROM job_error_log WHERE job_id = :id FOR NO KEY UPDATE",
    "job": "SELECT FROM job WHERE id = :id FOR NO KEY UPDATE",
    "job, referred to": "SELECT FROM job WHERE id = :id FOR KEY SHARE",
    "job, being deleted": "DELETE FROM job WHERE id = :id",
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_partly_locked_job_is_left_for_the_next_run(world: World, holder: str) -> None:
    """The clean-up does not wait, deletes the job beside it, and tries this job again in the next run."""
    held, neighbour = ended(world, 2)
    world.rows(ATTEMPT, id=held, status="completed")
    world.rows(ERROR.format("now() - interval '31 days'"), id=held)

    with somebody(HOLDERS[holder], id=held):
        clean_up(world)
        assert left(world) == {held}
        assert deleted(world) == {neighbour}
        assert world.entry(held).kept_at is None
        assert world.published.messages == []

    clean_up(world)
    assert left(world) == set()


def test_a_concurrent_deletion_by_the_web_app_succeeds(world: World) -> None:
    """It has locked a job and waits for its entry; the clean-up skips that job, and the deletion succeeds."""
    first, second = ended(world, 2)
    days = world.scalar("SELECT interval '7 days'")

    def delete_both() -> None:
        with engine().begin() as web_app:
            for job_id in (first, second):
                web_app.execute(text("DELETE FROM job WHERE id = :id"), {"id": job_id})

    with world.unit() as uow:
        job_ids = uow.old_jobs.lock_settled(days, 10)
        web_app = world.in_thread(delete_both)
        world.wait_for_lock_waiter()
        judged = uow.old_jobs.decide(job_ids, days)
        uow.jobs.delete([job.id for job in judged])
        uow.commit()
    web_app.join()

    assert sorted(job_ids) == sorted([first, second])
    assert [job.id for job in judged] == [second]
    assert left(world) == set()


MANY = """
    INSERT INTO job (id, "accountId", command, full_path, status, spawned_from)
    SELECT n, 'acc', 'issues', n, 'finished', CASE WHEN n > 1 THEN '1' END FROM generate_series(1, 20000) n
"""

THEIR_ENTRIES = """
    INSERT INTO job_queue (id, web_app_job_id, account_id, status, settled_at, spawned_from)
    SELECT id, id, 'acc', 'completed', now() - make_interval(days => 10, mins => id::int), spawned_from FROM job
"""

THEIR_ATTEMPTS = """
    INSERT INTO job_assignment_mapping (id, web_app_job_id, crawler_job_id, status, completed_at)
    SELECT id, id, id, 'completed', now() FROM job
"""


def read(plan: dict[str, Any]) -> int:
    """The number of rows that the leaves of a plan read."""
    below = plan.get("Plans", [])
    if below:
        return sum(read(part) for part in below)
    rows = (
        plan["Actual Rows"]
        + plan.get("Rows Removed by Filter", 0)
        + plan.get("Rows Removed by Index Recheck", 0)
    )
    return int(rows * plan["Actual Loops"])


@pytest.mark.fresh_tables
@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "never analyzed"])
def test_finding_old_jobs_reads_no_more_than_its_batch(world: World, analyzed: bool) -> None:  # noqa: FBT001
    """Among 20,000 old jobs, one of them the parent of all others, with and without statistics."""
    for table in (MANY, THEIR_ENTRIES, THEIR_ATTEMPTS):
        world.rows(table)
    world.rows("ANALYZE job, job_queue, job_assignment_mapping, job_error_log, deferred_job, adoption")
    if not analyzed:
        world.rows("DELETE FROM pg_statistic")
        world.rows("UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relname LIKE 'job%'")
    ids = [str(n) for n in range(1, 101)]
    keep = world.scalar("SELECT interval '7 days'")
    bounds: tuple[tuple[Any, dict[str, Any], int], ...] = (
        (statements._LOCK_SETTLED, {"keep": keep, "limit": 100}, 100),
        (statements._LOCK_ATTEMPTS, {"ids": ids}, 100),
        (statements._LOCK_JOBS, {"ids": ids}, 100),
        # for each job: the job, its last error, and one row of each kind of dependent
        (statements._DECIDE, {"ids": ids, "attempts": ids, "keep_errors": keep}, 500),
        (jobs._DELETE, {"ids": ids}, 100),
    )

    with world.unit() as uow:
        uow.retention.prefer_indexes()
        for statement, values, bound in bounds:
            explained = text(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement.text}")
            (plan,) = uow.old_jobs._session.scalars(explained, values).one()
            assert read(plan["Plan"]) <= bound, json.dumps(plan, indent=1)
