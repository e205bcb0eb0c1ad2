"""Concurrent discoveries and orders: each area and each job exists exactly once."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import text

from persistence.db.engine import engine
from persistence.schema.ids import JobId
from support.worlds.discoveries import GROUP_COMMANDS, PROJECT_COMMANDS, Discoverer, group, project, user
from support.worlds.world import World

FOUND = [group("team", 7), *(project(f"team/{n}", n) for n in range(1, 6))]
JOBS = len(GROUP_COMMANDS) + 5 * len(PROJECT_COMMANDS)


def test_two_accounts_discovering_one_group_concurrently_create_its_jobs_once(world: World) -> None:
    """One of them waits for the other at the areas, runs again, and finds the jobs."""
    world.account("other")
    discoverers = [Discoverer.at_work(world), Discoverer.at_work(world, account="other")]
    threads = [Thread(target=discoverer.finds, args=FOUND) for discoverer in discoverers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert world.scalar("SELECT count(*) FROM job WHERE spawned_from IS NOT NULL") == JOBS
    assert (
        world.scalar("SELECT count(DISTINCT (full_path, command)) FROM job WHERE spawned_from IS NOT NULL")
        == JOBS
    )
    assert world.scalar("SELECT count(*) FROM area_authorization") == 2 * len(FOUND)
    sums = [world.job(discoverer.job_id).progress["discovery"] for discoverer in discoverers]
    assert sorted((progress["jobs"], progress["existing"]) for progress in sums) == [(0, JOBS), (JOBS, 0)]
    assert world.rejections() == []


@contextmanager
def uncommitted(world: World, discoverer: Discoverer, *found: Any) -> Iterator[None]:
    """Apply a discovery that commits once another transaction waits for it."""
    from tasks.discovery.apply import apply_discovery  # noqa: PLC0415 - after the environment is set
    from tasks.fleet.batch import FrameBatch  # noqa: PLC0415
    from tasks.fleet.refused import RefusedFrames  # noqa: PLC0415

    items = [discoverer.frame(*found, at="2026-05-04T03:02:10Z")]
    batch = FrameBatch.parse(items)
    with world.unit() as uow:
        assert apply_discovery(uow, *batch.discoveries[0], RefusedFrames(items, batch))
        yield
        world.wait_for_lock_waiter()
        uow.commit()


@pytest.fixture
def two(world: World) -> list[Discoverer]:
    """Crawlers that run the discoveries of two accounts."""
    world.account("other")
    return [Discoverer.at_work(world), Discoverer.at_work(world, account="other")]


@pytest.fixture
def one_account(world: World) -> list[Discoverer]:
    """Crawlers that run two discoveries of one account."""
    first = Discoverer.at_work(world)
    job_id = world.insert_job(command="GROUP_PROJECT_DISCOVERY", full_path=None)
    world.deliver("jobs.enqueue", job_ids=[job_id])
    crawler = world.crawler(capacity=1)
    world.assign()
    return [first, Discoverer(world, crawler, *crawler.orders(), job_id)]


def test_a_discovery_that_waited_for_another_finds_its_jobs(world: World, two: list[Discoverer]) -> None:
    """The second one reads before the first commits, and reads again after it."""
    first, second = two
    with uncommitted(world, first, *FOUND):
        thread = world.in_thread(lambda: second.finds(*FOUND))
    thread.join()

    assert world.scalar("SELECT count(*) FROM job WHERE spawned_from IS NOT NULL") == JOBS
    assert world.job(second.job_id).progress["discovery"]["existing"] == JOBS


def test_a_child_without_a_url_is_also_created_once(world: World, two: list[Discoverer]) -> None:
    """A user has no area whose lock would serialize the two discoveries."""
    first, second = two
    world.rows("""UPDATE job SET "gitlabGraphQLUrl" = NULL""")
    with uncommitted(world, first, user("ann", 1)):
        thread = world.in_thread(lambda: second.finds(user("ann", 1)))
    thread.join()

    assert world.rejections() == []
    assert world.rows("SELECT full_path, command FROM job WHERE spawned_from IS NOT NULL") == [
        ("ann", "users")
    ]
    assert world.job(second.job_id).progress["discovery"]["existing"] == 1


def test_an_area_moved_twice_concurrently_is_at_its_last_path(
    world: World, one_account: list[Discoverer]
) -> None:
    """The second plan was made for other areas, so it is made again."""
    first, second = one_account
    first.finds(project("a", 1))
    with uncommitted(world, first, project("b", 1)):
        thread = world.in_thread(lambda: second.finds(project("c", 1)))
    thread.join()

    assert world.rows("SELECT full_path, former_path FROM area_change ORDER BY id") == [
        ("b", "a"),
        ("c", "b"),
    ]
    assert world.rows("SELECT full_path FROM area") == [("c",)]
    assert world.rejections() == []


def test_an_area_that_another_account_adds_concurrently_is_not_moved(
    world: World, two: list[Discoverer]
) -> None:
    """The second run finds that the other account uses it, and only proposes the move."""
    first, second = two
    with uncommitted(world, first, project("a", 1)):
        thread = world.in_thread(lambda: second.finds(project("b", 1)))
    thread.join()

    assert world.rows("SELECT full_path, former_path, status FROM area_change") == [("b", "a", "proposed")]
    assert world.rows("SELECT full_path FROM area") == [("a",)]
    assert world.rows("SELECT * FROM area_authorization") == [("acc", "a")]


def test_an_area_added_concurrently_at_another_path_is_moved(
    world: World, one_account: list[Discoverer]
) -> None:
    """Its id is taken when the second discovery adds it."""
    first, second = one_account
    with uncommitted(world, first, project("a", 1)):
        thread = world.in_thread(lambda: second.finds(project("b", 1)))
    thread.join()

    assert world.rows("SELECT full_path, former_path FROM area_change") == [("b", "a")]
    assert world.scalar("SELECT count(*) FROM job WHERE spawned_from IS NOT NULL") == len(PROJECT_COMMANDS)
    assert world.rejections() == []


def test_two_discoveries_of_one_account_share_its_cap(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a lock, both would find the same room."""
    monkeypatch.setenv("CRAWLYARD_PENDING_CAP", "5")
    world.reload_settings()
    discoverers = [Discoverer.at_work(world), Discoverer.at_work(world, path="lab")]
    with uncommitted(world, discoverers[0], project("a", 1)):
        thread = world.in_thread(lambda: discoverers[1].finds(project("lab/b", 2)))
    thread.join()

    assert world.scalar("SELECT count(*) FROM job_queue WHERE status = 'pending'") == 5
    assert world.scalar("SELECT count(*) FROM deferred_job") == 5


def test_a_concurrent_order_for_a_child_is_answered_with_it(world: World, two: list[Discoverer]) -> None:
    """Orders and discoveries use the same unique identities."""
    order = world.order(namespace_path="team/1", command="issues")
    with uncommitted(world, two[0], *FOUND):
        thread = world.in_thread(lambda: world.submit(order))
    thread.join()

    (job,) = world.rows("SELECT id FROM job WHERE full_path = 'team/1' AND command = 'issues'")
    (answer,) = [e for e in world.events("job_created") if e.payload["existing"]]
    assert answer.job_id == job.id


def test_a_concurrent_order_for_a_moving_job_is_answered_with_it(world: World, two: list[Discoverer]) -> None:
    """The identity moves along with the job."""
    two[0].finds(project("a", 1))
    order = world.order(namespace_path="b", command="issues")
    with uncommitted(world, two[0], project("b", 1)):
        thread = world.in_thread(lambda: world.submit(order))
    thread.join()

    (job,) = world.rows("SELECT id FROM job WHERE full_path = 'b' AND command = 'issues'")
    (answer,) = [e for e in world.events("job_created") if e.payload["existing"]]
    assert answer.job_id == job.id


@contextmanager
def uncommitted_order(world: World, **order: Any) -> Iterator[None]:
    """Submit an order that commits once another transaction waits for it."""
    from tasks.contract.payloads import Order  # noqa: PLC0415 - after the environment is set
    from tasks.jobs.submit import OrderedJob, submit_orders  # noqa: PLC0415
    from tasks.sanitize.refused import RefusedItems  # noqa: PLC0415

    parsed = Order.model_validate(world.order(**order))
    with world.unit() as uow:
        submit_orders(uow, [OrderedJob.of(parsed, JobId(str(parsed.web_app_job_id)))], RefusedItems([]))
        yield
        world.wait_for_lock_waiter()
        uow.commit()


def test_an_area_moving_to_a_path_added_by_an_order_is_found_there(
    world: World, two: list[Discoverer]
) -> None:
    """Nothing is rejected: the second run finds both areas and merges them."""
    two[0].finds(project("a", 1))
    with uncommitted_order(world, namespace_path="b", command="group", entity_id="2"):
        thread = world.in_thread(lambda: two[0].finds(project("b", 1), at="2026-05-04T03:02:10Z"))
    thread.join()

    assert world.rejections() == []
    assert world.rows("SELECT full_path, gitlab_id FROM area") == [("b", "gid://gitlab/Project/1")]
    assert world.rows("SELECT former_path, former_gitlab_id FROM area_change") == [
        ("a", "gid://gitlab/Group/2")
    ]


def test_an_area_gets_its_id_although_an_order_adds_it_elsewhere(world: World, two: list[Discoverer]) -> None:
    """Nothing is rejected: the second run finds that the id has moved."""
    two[0].finds(project("a", 1))
    with uncommitted_order(world, namespace_path="b", command="project", entity_id="2"):
        thread = world.in_thread(lambda: two[0].finds(project("a", 2), at="2026-05-04T03:02:10Z"))
    thread.join()

    assert world.rejections() == []
    assert world.rows("SELECT full_path, gitlab_id FROM area") == [("a", "gid://gitlab/Project/2")]


def test_a_job_moving_to_the_path_of_an_ordered_job_leaves_it_the_identity(
    world: World, two: list[Discoverer]
) -> None:
    """Nothing is rejected; the moved job has no identity, like one that the web app inserted."""
    two[0].finds(project("a", 1))
    with uncommitted_order(world, namespace_path="b", command="issues"):
        thread = world.in_thread(lambda: two[0].finds(project("b", 1), at="2026-05-04T03:02:10Z"))
    thread.join()

    assert world.rejections() == []
    assert world.rows("SELECT full_path FROM area") == [("b",)]
    assert world.rows(
        "SELECT spawned_from IS NULL, count(*) FROM job_queue WHERE identity LIKE '%\"b\"%' GROUP BY 1 ORDER BY 1"
    ) == [(False, len(PROJECT_COMMANDS) - 1), (True, 1)]


def test_many_discoveries_in_one_message_take_several_deliveries(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together they may exceed the task's time limit; each delivery applies one more."""
    discoverer = Discoverer.at_work(world)
    frames = [
        *(discoverer.frame(project(f"a/{n}", n), at=f"2026-05-04T03:02:1{n}Z") for n in range(1, 4)),
        discoverer.crawler.frame("job_completed", discoverer.order),
    ]
    monkeypatch.setattr("tasks.discovery.apply.TIME_LIMIT_S", 0.0)

    for applied in range(1, 4):
        world.sends(*frames, message="a message")
        assert len(discoverer.attempt().discoveries) == applied
        assert world.job(discoverer.job_id).status == "queued"
    world.sends(*frames, message="a message")

    assert world.job(discoverer.job_id).status == "finished"
    assert world.scalar("SELECT count(*) FROM job WHERE spawned_from IS NOT NULL") == 3 * len(
        PROJECT_COMMANDS
    )


def test_heartbeats_are_recorded_before_discoveries_are_applied(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep during a large discovery must not find its sender silent."""
    discoverer = Discoverer.at_work(world)
    discoverer.crawler.silent_for(8)
    received_at = []

    def look(*_: Any) -> bool:
        received_at.append(discoverer.crawler.row().last_heartbeat)
        return False

    monkeypatch.setattr("tasks.discovery.apply.apply_discovery", look)
    before = world.now()
    discoverer.finds(*FOUND)

    assert len(received_at) == 1
    assert received_at[0] > before


def test_a_discovery_delivered_twice_concurrently_is_applied_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both units find it new; the second one checks again under the lock."""
    monkeypatch.setenv("CRAWLYARD_LOCK_TIMEOUT", "30")
    world.reload_settings()
    discoverer = Discoverer.at_work(world)
    discoverer.finds(*FOUND)
    with uncommitted(world, discoverer, *FOUND):
        thread = world.in_thread(lambda: discoverer.finds(*FOUND, at="2026-05-04T03:02:10Z"))
    thread.join()

    assert len(discoverer.attempt().discoveries) == 2
    sums = world.job(discoverer.job_id).progress["discovery"]
    assert (sums["frames"], sums["jobs"], sums["existing"]) == (2, JOBS, JOBS)


def test_a_discovery_locks_the_account_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its foreign keys would lock the account last, which can deadlock with one that locks account, then job."""
    monkeypatch.setenv("CRAWLYARD_LOCK_TIMEOUT", "30")
    world.reload_settings()
    discoverer = Discoverer.at_work(world)
    with engine().connect() as web_app:
        web_app.execute(text("SELECT FROM account FOR UPDATE"))
        thread = world.in_thread(lambda: discoverer.finds(*FOUND))
        world.wait_for_lock_waiter()
        free = world.rows("SELECT id FROM job_queue FOR UPDATE SKIP LOCKED")
        web_app.rollback()
        thread.join()

    assert len(free) == 1
    assert world.scalar("SELECT count(*) FROM job WHERE spawned_from IS NOT NULL") == JOBS


def test_two_concurrent_new_ids_of_a_path_are_recorded_in_order(
    world: World, one_account: list[Discoverer]
) -> None:
    """The second change replaces the id that the first has written, not the one that both had read."""
    first, second = one_account
    first.finds(project("p", 1))
    with uncommitted(world, first, project("p", 3)):
        thread = world.in_thread(lambda: second.finds(project("p", 2)))
    thread.join()

    ids = "SELECT former_gitlab_id, gitlab_id FROM area_change ORDER BY id"
    one, two_, three = (f"gid://gitlab/Project/{number}" for number in (1, 2, 3))
    assert world.rows(ids) == [(one, three), (three, two_)]
    assert world.rows("SELECT full_path, gitlab_id FROM area") == [("p", two_)]
