"""The cap on an account's waiting jobs: jobs found beyond it are deferred, and queued when there is room."""

import pytest
from sqlalchemy import text
from ulid import ULID

from persistence.db.engine import engine
from persistence.jobs.deferred import _ADD
from support.worlds.discoveries import PROJECT_COMMANDS, Discoverer, project
from support.worlds.world import World

LATER = "2026-05-04T03:02:09Z"


@pytest.fixture
def capped(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world in which an account may have four waiting jobs."""
    monkeypatch.setenv("CRAWLYARD_PENDING_CAP", "4")
    world.reload_settings()
    return world


def waiting(world: World) -> int:
    """The number of jobs that wait in the queue."""
    return int(world.scalar("SELECT count(*) FROM job_queue WHERE status = 'pending'"))


def deferred(world: World) -> int:
    """The number of deferred jobs."""
    return int(world.scalar("SELECT count(*) FROM deferred_job"))


def test_jobs_beyond_the_cap_are_deferred(capped: World) -> None:
    """Nothing is dropped, and the discovery's progress has their number."""
    discoverer = Discoverer.at_work(capped)

    discoverer.finds(project("a", 1), project("b", 2))

    assert (waiting(capped), deferred(capped)) == (4, 6)
    sums = capped.job(discoverer.job_id).progress["discovery"]
    assert (sums["jobs"], sums["deferred"]) == (4, 6)
    assert len(capped.rows("SELECT full_path FROM area")) == 2


def test_jobs_beyond_the_limit_of_deferred_jobs_are_counted_only(
    capped: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their areas are written, the progress has their number, and a later discovery finds them again."""
    monkeypatch.setenv("CRAWLYARD_MAX_DEFERRED", "2")
    capped.reload_settings()
    discoverer = Discoverer.at_work(capped)

    discoverer.finds(project("a", 1), project("b", 2))

    assert (waiting(capped), deferred(capped)) == (4, 2)
    sums = capped.job(discoverer.job_id).progress["discovery"]
    assert (sums["jobs"], sums["deferred"], sums["notCreated"]) == (4, 2, 4)
    assert len(capped.rows("SELECT full_path FROM area")) == 2

    capped.rows("DELETE FROM deferred_job WHERE id = (SELECT max(id) FROM deferred_job)")
    discoverer.finds(project("a", 1), project("b", 2), at=LATER)

    assert (waiting(capped), deferred(capped)) == (4, 2)
    sums = capped.job(discoverer.job_id).progress["discovery"]
    assert (sums["jobs"], sums["deferred"], sums["notCreated"]) == (4, 3, 8)


def test_the_cap_applies_to_the_whole_discovery(capped: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not start anew with each chunk of a large one."""
    monkeypatch.setattr("tasks.discovery.apply.CHUNK", 1)
    Discoverer.at_work(capped).finds(*(project(f"a/{n}", n) for n in range(1, 5)))

    assert (waiting(capped), deferred(capped)) == (4, 4 * len(PROJECT_COMMANDS) - 4)


def test_a_frame_creates_a_bounded_number_of_jobs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are deferred, and created at once after it, since there is room."""
    monkeypatch.setenv("CRAWLYARD_MAX_FRAME_JOBS", "7")
    world.reload_settings()
    discoverer = Discoverer.at_work(world)

    discoverer.finds(*(project(f"a/{n}", n) for n in range(1, 4)))

    assert (waiting(world), deferred(world)) == (7, 8)
    sums = world.job(discoverer.job_id).progress["discovery"]
    assert (sums["jobs"], sums["deferred"]) == (7, 8)
    assert world.published.of("upkeep.feed_deferred") == [{}]
    world.deliver("upkeep.feed_deferred")
    assert (waiting(world), deferred(world)) == (15, 0)


def test_an_account_without_a_cap_has_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more jobs of it wait than max_waiting; the others are deferred, and nothing is fed beyond it."""
    monkeypatch.setenv("CRAWLYARD_MAX_WAITING", "6")
    world.reload_settings()
    discoverer = Discoverer.at_work(world)

    discoverer.finds(project("a", 1))
    discoverer.finds(project("b", 2), project("c", 3), at=LATER)
    world.deliver("upkeep.feed_deferred")

    assert (waiting(world), deferred(world)) == (6, 9)


def test_jobs_found_again_are_deferred_once(capped: World) -> None:
    """They are neither deferred twice nor queued before jobs that were deferred earlier."""
    discoverer = Discoverer.at_work(capped)
    discoverer.finds(project("a", 1))
    capped.rows(
        "UPDATE job_queue SET status = 'completed', settled_at = now() WHERE spawned_from IS NOT NULL"
    )
    capped.rows("UPDATE job SET status = 'finished' WHERE spawned_from IS NOT NULL")

    discoverer.finds(project("a", 1), project("b", 2), at=LATER)

    assert (waiting(capped), deferred(capped)) == (0, 6)
    assert capped.published.of("upkeep.feed_deferred") == [{}]


def test_deferred_jobs_are_fed_as_room_becomes_free(capped: World) -> None:
    """They are queued in the order in which they were found, as the jobs that they would have been."""
    discoverer = Discoverer.at_work(capped)
    discoverer.finds(project("a", 1, priority=7))
    crawler = capped.crawler(capacity=3)
    capped.assign()
    assert capped.published.of("upkeep.feed_deferred") == [{}]

    capped.deliver("upkeep.feed_deferred")

    assert (waiting(capped), deferred(capped)) == (2, 0)
    (fed,) = capped.rows("SELECT * FROM job WHERE command = :last", last=PROJECT_COMMANDS[-1])
    assert (fed.full_path, fed.spawned_from, fed.accountId, fed.status) == (
        "a",
        discoverer.job_id,
        "acc",
        "queued",
    )
    entry = capped.entry(fed.id)
    assert (entry.priority, entry.data, entry.host) == (
        7,
        {"entity_id": "gid://gitlab/Project/1"},
        "gitlab.example.org",
    )
    assert capped.rows('SELECT full_path FROM job_area WHERE "jobId" = :id', id=fed.id) == [("a",)]
    assert capped.events("job_created")[-1].job_id == fed.id
    assert len(crawler.orders()) == 3
    assert "jobs.assign" in {task for task, _ in capped.published.messages}


def test_deferred_jobs_are_not_fed_beyond_the_cap(capped: World) -> None:
    """Feeding twice in a row is the same as once."""
    Discoverer.at_work(capped).finds(project("a", 1), project("b", 2))

    capped.deliver("upkeep.feed_deferred")
    capped.deliver("upkeep.feed_deferred")

    assert (waiting(capped), deferred(capped)) == (4, 6)


def test_reconcile_publishes_feed_deferred(capped: World) -> None:
    """A failed publish costs only time, even if the cap was lifted meanwhile."""
    Discoverer.at_work(capped).finds(project("a", 1))
    capped.published.messages.clear()

    capped.deliver("upkeep.reconcile")

    assert capped.published.of("upkeep.feed_deferred") == [{}]


def test_without_a_cap_all_deferred_jobs_are_fed(capped: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are queued in chunks, each of which publishes the next."""
    Discoverer.at_work(capped).finds(project("a", 1), project("b", 2))
    monkeypatch.delenv("CRAWLYARD_PENDING_CAP")
    capped.reload_settings()
    monkeypatch.setattr("tasks.discovery.feed.CHUNK_JOBS", 4)
    capped.published.messages.clear()

    capped.deliver("upkeep.feed_deferred")

    assert (waiting(capped), deferred(capped)) == (8, 2)
    assert capped.published.of("upkeep.feed_deferred") == [{}]


def test_an_account_at_its_cap_does_not_block_others(capped: World) -> None:
    """Each account has its own room."""
    Discoverer.at_work(capped).finds(project("a", 1))
    capped.account("other")
    other = Discoverer.at_work(capped, account="other")
    other.finds(project("b", 2))
    capped.rows("UPDATE job_queue SET status = 'processing' WHERE account_id = 'other'")

    capped.deliver("upkeep.feed_deferred")

    assert capped.rows("SELECT account_id, count(*) FROM deferred_job GROUP BY 1") == [("acc", 1)]


def test_a_paused_account_is_not_fed(capped: World) -> None:
    """Its jobs would only fill its queue."""
    Discoverer.at_work(capped).finds(project("a", 1))
    capped.rows("UPDATE job_queue SET status = 'processing' WHERE account_id = 'acc'")
    capped.rows("UPDATE account_lane SET paused_at = now() WHERE account_id = 'acc'")

    capped.deliver("upkeep.feed_deferred")

    assert deferred(capped) == 1


def test_a_deferred_job_that_exists_by_now_is_dropped(capped: World) -> None:
    """The existing job is not created a second time."""
    Discoverer.at_work(capped).finds(project("a", 1))
    capped.submit(capped.order(namespace_path="a", command=PROJECT_COMMANDS[-1]))
    capped.rows("UPDATE job_queue SET status = 'processing' WHERE account_id = 'acc'")

    capped.deliver("upkeep.feed_deferred")

    assert deferred(capped) == 0
    assert capped.scalar("SELECT count(*) FROM job WHERE command = :c", c=PROJECT_COMMANDS[-1]) == 1


def test_deferred_jobs_of_a_deleted_account_are_dropped(capped: World) -> None:
    """Deferred jobs of other accounts are queued."""
    Discoverer.at_work(capped).finds(project("a", 1))
    capped.rows("UPDATE deferred_job SET account_id = 'gone'")

    capped.deliver("upkeep.feed_deferred")

    assert deferred(capped) == 0
    assert capped.rejections() == []


def test_deferred_jobs_locked_by_a_peer_are_left_to_it(capped: World) -> None:
    """Two concurrent units do not wait for each other, and no job is created twice."""
    Discoverer.at_work(capped).finds(project("a", 1), project("b", 2))
    capped.rows("UPDATE job_queue SET status = 'processing' WHERE account_id = 'acc'")
    first = "SELECT FROM deferred_job ORDER BY id LIMIT 3 FOR UPDATE"
    with engine().connect() as peer:
        peer.execute(text(first))
        capped.deliver("upkeep.feed_deferred")
        assert (waiting(capped), deferred(capped)) == (3, 3)
        peer.rollback()

    capped.deliver("upkeep.feed_deferred")

    assert (waiting(capped), deferred(capped)) == (4, 2)


def test_a_job_deferred_under_two_spellings_of_its_gitlab_is_fed_once(world: World) -> None:
    """Both are taken by one unit, which would otherwise meet its own job each time it runs."""
    Discoverer.at_work(world)
    for url in ("https://gitlab.example.org/api/graphql", "https://GitLab.example.org:443/api/graphql"):
        world.rows(
            "INSERT INTO deferred_job (id, account_id, graphql_url, command, full_path, priority, spawned_from)"
            " VALUES (:id, 'acc', :url, 'issues', 'team/tool', 1, 'x')",
            id=str(ULID()),
            url=url,
        )

    world.deliver("upkeep.feed_deferred")

    assert deferred(world) == 0
    assert world.rows("SELECT full_path FROM job WHERE command = 'issues'") == [("team/tool",)]


def test_each_job_is_looked_up_in_the_index_of_those_deferred(world: World) -> None:
    """Also while the table has no statistics: joined, each path would be compared with that of each."""
    Discoverer.at_work(world)
    world.rows(
        "INSERT INTO deferred_job (id, account_id, provider, graphql_url, command, full_path, priority, spawned_from)"
        " SELECT 'deferred-' || n, 'acc', 'gitlab-cloud', 'https://gitlab.example', 'project', 'p/' || n, 1, 'parent'"
        "   FROM generate_series(1, 2500) n"
    )
    with engine().connect() as connection:
        values = {"rows": "[]", "account_id": "acc", "limit": 10_000}
        plan = "\n".join(connection.scalars(text(f"EXPLAIN {_ADD.text}"), values))
    assert "Index Scan using deferred_job_identity_key" in plan
    assert "Seq Scan on deferred_job" not in plan
