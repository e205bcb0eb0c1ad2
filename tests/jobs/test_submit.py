"""jobs.submit: each job is created once, however often it is ordered, and by however many at once."""

import random
from collections import Counter
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text
from ulid import ULID

from persistence.db.engine import engine
from support.worlds.world import World


def queue_counts(world: World) -> dict[str, int]:
    """The number of entries by status."""
    return dict(world.rows("SELECT status, count(*) FROM job_queue GROUP BY 1"))


def details(world: World) -> list[tuple[str, str]]:
    """The rejections, with their reasons and details."""
    return [tuple(row) for row in world.rows("SELECT reason, detail FROM rejected_message ORDER BY id")]


def test_an_order_creates_a_job_an_entry_and_an_area(world: World) -> None:
    """Each has the values of the order; the GitLab id is global, and nothing runs yet."""
    order = world.order(
        entity_id="42", namespace_path="group/project", branch="main", priority=7, tags=["nightly"],
        metadata={"batch": 3}, gitlab_host="HTTPS://GitLab.example.org/", provider="gitlab-onprem",
    )  # fmt: skip
    (job_id,) = world.submit(order)

    job = world.job(job_id)
    assert (job.status, job.command, job.full_path, job.branch) == (
        "queued",
        "project",
        "group/project",
        "main",
    )
    assert (job.accountId, job.userId, job.provider) == ("acc", None, "gitlab-onprem")
    assert (job.gitlabGraphQLUrl, job.started_at) == ("https://gitlab.example.org/api/graphql", None)
    entry = world.entry(job_id)
    assert (entry.status, entry.priority, entry.attempts, entry.max_attempts) == ("pending", 7, 0, 3)
    assert (entry.account_id, entry.host, entry.ready, entry.held) == (
        "acc",
        "gitlab.example.org",
        True,
        False,
    )
    kept = {
        "gitlab_host": "https://gitlab.example.org",
        "entity_id": "42",
        "tags": ["nightly"],
        "metadata": {"batch": 3},
    }
    assert entry.data == kept
    assert world.rows("SELECT full_path, gitlab_id, name, type FROM area") == [
        ("group/project", "gid://gitlab/Project/42", "project", "project")
    ]
    assert world.rows("SELECT * FROM job_area") == [(job_id, "group/project")]
    assert [(e.job_id, e.account_id, e.payload) for e in world.events("job_created")] == [
        (job_id, "acc", {"existing": False})
    ]
    assert world.published.messages == [("jobs.assign", {})]
    assert world.rejections() == []


@pytest.mark.parametrize(
    ("order", "area"),
    [
        ({"command": None, "job_type": "crawl_group", "entity_id": "7"}, ("gid://gitlab/Group/7", "group")),
        (
            {"command": None, "job_type": "discover_namespaces", "entity_id": "7"},
            ("gid://gitlab/Group/7", "group"),
        ),
        ({"entity_id": "gid://gitlab/Project/9"}, ("gid://gitlab/Project/9", "project")),
        ({"command": "issues", "entity_id": "7"}, None),
        ({"namespace_path": None, "entity_id": "7"}, None),
        ({}, None),
    ],
)
def test_an_area_is_created_when_its_id_is_known(
    world: World, order: dict[str, Any], area: tuple[str, str] | None
) -> None:
    """Groups and projects have separate ids; an id of anything else, or without a path, makes no area."""
    world.submit(world.order(**order))

    assert world.rows("SELECT gitlab_id, type FROM area") == ([] if area is None else [area])
    assert world.scalar("SELECT count(*) FROM job_area") == (0 if area is None else 1)
    assert world.rejections() == []


def test_a_known_area_is_unchanged(world: World) -> None:
    """What the web app stored about it is not overwritten; the job is linked to it."""
    world.rows(
        "INSERT INTO area (full_path, gitlab_id, name, type) VALUES ('group/p', 'other', 'Named', 'group')"
    )

    (job_id,) = world.submit(world.order(namespace_path="group/p", entity_id="42"))

    assert world.rows("SELECT gitlab_id, name, type FROM area") == [("other", "Named", "group")]
    assert world.rows("SELECT * FROM job_area") == [(job_id, "group/p")]


def test_an_order_without_an_id_gets_one_derived_from_its_message(world: World) -> None:
    """The id is a ULID, the same at each delivery and different at each position."""
    orders = [world.order(web_app_job_id=None, command="users", namespace_path=None) for _ in range(3)]

    world.submit(*orders, message="the-message")
    world.rows("DELETE FROM handled_message")
    world.submit(*orders, message="the-message")

    ids = [id_ for (id_,) in world.rows("SELECT id FROM job")]
    assert len(ids) == 3
    assert all(str(ULID.from_str(id_)) == id_ for id_ in ids)


def test_an_order_delivered_twice_creates_one_job(world: World) -> None:
    """A redelivery changes nothing, and stores no second rejection of an invalid item."""
    message, orders = str(ULID()), [world.order(), world.order(web_app_job_id=None), {"bad": True}]
    world.submit(*orders, message=message)
    before = world.snapshot()
    world.published.messages.clear()

    world.submit(*orders, message=message)

    assert world.snapshot() == before
    assert len(before["job"]) == 2
    assert world.published.messages == []


def test_a_repeated_job_id_creates_one_job(world: World) -> None:
    """In another message it is answered with the existing job, which does not change."""
    order = world.order(priority=1)
    world.submit(order)
    before = world.snapshot()
    world.published.messages.clear()

    world.submit(order | {"priority": 9}, order | {"namespace_path": "elsewhere"})

    after = world.snapshot()
    assert [e.payload["existing"] for e in world.events("job_created")] == [False, True, True]
    assert {e.job_id for e in world.events("job_created")} == {order["web_app_job_id"]}
    assert after | {"dispatch_event": None} == before | {"dispatch_event": None}
    assert world.entry(order["web_app_job_id"]).priority == 1
    assert world.published.messages == []


@pytest.mark.parametrize("branch", [None, "main"])
def test_an_order_for_an_existing_job_is_answered_with_it(world: World, branch: str | None) -> None:
    """Host, path, branch and command identify a job; if any of them differs, it is another job."""
    order = world.order(branch=branch)
    (job_id,) = world.submit(order)

    world.submit(order | {"web_app_job_id": str(ULID())})

    assert world.scalar("SELECT count(*) FROM job") == 1
    assert [(e.job_id, e.payload["existing"]) for e in world.events("job_created")] == [
        (job_id, False),
        (job_id, True),
    ]
    for change in ({"branch": "other"}, {"command": "issues"}, {"namespace_path": "group/other"}):
        world.submit(order | change | {"web_app_job_id": str(ULID())})
    assert world.scalar("SELECT count(*) FROM job") == 4
    assert queue_counts(world) == {"pending": 4}


def test_a_job_inserted_by_the_web_app_answers_an_order(world: World) -> None:
    """Also if it has no entry and its branch is NULL."""
    own = world.insert_job(full_path="group/own")

    world.submit(world.order(namespace_path="group/own"))

    assert [(e.job_id, e.payload["existing"]) for e in world.events("job_created")] == [(own, True)]
    assert world.scalar("SELECT count(*) FROM job") == 1


@pytest.mark.parametrize("branch", [None, "main"])
def test_two_equal_orders_in_one_message_create_one_job(world: World, branch: str | None) -> None:
    """The first creates the job, the second is answered with it."""
    order = world.order(branch=branch)

    world.submit(order, order | {"web_app_job_id": str(ULID())}, order)

    assert [job_id for (job_id,) in world.rows("SELECT id FROM job")] == [order["web_app_job_id"]]
    assert queue_counts(world) == {"pending": 1}
    assert world.rejections() == []


def test_orders_without_a_path_create_separate_jobs(world: World) -> None:
    """Each order has a job of its own."""
    order = world.order(namespace_path=None, command="users")

    world.submit(order, order | {"web_app_job_id": str(ULID())})

    assert queue_counts(world) == {"pending": 2}


def test_the_same_path_without_a_branch_on_another_host_creates_another_job(world: World) -> None:
    """The shared unique index forbids it only for jobs with a branch."""
    order = world.order()

    world.submit(order)
    world.submit(order | {"web_app_job_id": str(ULID()), "gitlab_host": "gitlab.example.net"})

    assert queue_counts(world) == {"pending": 2}
    assert world.rejections() == []


@pytest.mark.parametrize("apart", [True, False], ids=["in two messages", "in one message"])
def test_a_collision_with_another_host_is_rejected_with_that_reason(world: World, apart: bool) -> None:  # noqa: FBT001
    """The shared index allows one job for each path and branch: the second order is rejected, the others apply."""
    order, other = world.order(branch="main"), world.order()
    colliding = order | {"web_app_job_id": str(ULID()), "gitlab_host": "gitlab.example.net"}

    if apart:
        world.submit(order)
        world.submit(colliding, other)
    else:
        world.submit(order, colliding, other)

    assert world.rejections() == [("jobs.submit", "collides_with_another_host")]
    assert order["web_app_job_id"] in details(world)[0][1]
    assert {id_ for (id_,) in world.rows("SELECT id FROM job")} == {
        order["web_app_job_id"],
        other["web_app_job_id"],
    }


@pytest.mark.parametrize("branch", [None, "main"])
def test_two_concurrent_equal_orders_create_one_job(world: World, branch: str | None) -> None:
    """In many repetitions with real commits there is one job with one entry, and both orders are answered with it."""
    random_ = random.Random(7)
    order_count = 0
    made = set()
    for _ in range(30):
        orders = [world.order(branch=branch) for _ in range(3)]
        batches = [random_.sample(orders, random_.randint(1, 3)) for _ in range(2)]
        threads = [
            world.in_thread(
                partial(world.submit, *(order | {"web_app_job_id": str(ULID())} for order in batch))
            )
            for batch in batches
        ]
        for thread in threads:
            thread.join()
        order_count += sum(map(len, batches))
        made |= {order["namespace_path"] for batch in batches for order in batch}

    assert world.rejections() == []
    assert Counter(path for (path,) in world.rows("SELECT full_path FROM job")) == Counter(made)
    assert queue_counts(world) == {"pending": len(made)}
    existing = Counter(e.payload["existing"] for e in world.events("job_created"))
    assert existing == {False: len(made), True: order_count - len(made)}


def test_an_order_concurrent_with_an_insert_of_the_web_app_is_answered_with_that_job(world: World) -> None:
    """It waits for the web app's transaction and then finds its job: nothing is rejected."""
    own = {"id": str(ULID()), "path": "group/own", "url": "https://gitlab.example.org/api/graphql"}
    with engine().connect() as web_app:
        web_app.execute(
            text(
                'INSERT INTO job (id, "accountId", command, full_path, branch, "gitlabGraphQLUrl")'
                " VALUES (:id, 'acc', 'project', :path, 'main', :url)"
            ),
            own,
        )
        thread = world.in_thread(lambda: world.submit(world.order(namespace_path="group/own", branch="main")))
        world.wait_for_lock_waiter()
        web_app.commit()
    thread.join()

    assert world.rejections() == []
    assert [(e.job_id, e.payload["existing"]) for e in world.events("job_created")] == [(own["id"], True)]
    assert world.scalar("SELECT count(*) FROM job") == 1


def test_a_path_changed_by_the_web_app_frees_its_identity(world: World) -> None:
    """The existing job has another path now: an order for the old path creates a new job."""
    order = world.order()
    world.submit(order)
    world.rows("UPDATE job SET full_path = 'group/moved'")

    world.submit(order | {"web_app_job_id": str(ULID())})

    assert queue_counts(world) == {"pending": 2}
    assert world.rejections() == []


def test_a_path_with_a_space_is_not_a_path_with_a_branch(world: World) -> None:
    """Their identities differ, even if path and branch read the same when joined."""
    world.submit(world.order(namespace_path="x y"))
    world.submit(world.order(namespace_path="x", branch="y "))

    assert world.rejections() == []
    assert world.scalar("SELECT count(*) FROM job") == 2
