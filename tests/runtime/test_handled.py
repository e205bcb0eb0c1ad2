"""A gateway repeats a message until it reads that the message was handled: applied, or rejected as a whole."""

import json

import pytest

from support.worlds.world import World
from tasks.runtime import rejection
from tasks.runtime.reading.body import Body
from tasks.runtime.reading.large_items import MAX_ITEM_BYTES


def is_handled(world: World) -> bool:
    """True if the message `one` counts as handled."""
    return bool(world.rows("SELECT FROM handled_message WHERE message_id = 'one'"))


@pytest.mark.parametrize("task", ["crawler.frames", "connections.attach", "connections.heartbeat"])
def test_a_message_that_is_rejected_as_a_whole_counts_as_handled(world: World, task: str) -> None:
    """Otherwise it is repeated for ever."""
    for _ in range(2):
        world.deliver(task, "one", nonsense=1)

    assert is_handled(world)
    assert world.rejections() == [(task, "invalid")]


def test_a_message_that_was_rejected_before_is_claimed_all_the_same(world: World) -> None:
    """A worker of an earlier version kept it, and its second delivery stores no second row."""
    world.deliver("crawler.frames", "one", nonsense=1)
    world.rows("DELETE FROM handled_message WHERE message_id = 'one'")

    world.deliver("crawler.frames", "one", nonsense=1)

    assert is_handled(world)
    assert world.rejections() == [("crawler.frames", "invalid")]


def test_other_tasks_claim_no_id_for_a_rejection(world: World) -> None:
    """Producers of one's own may use an id for several messages, all of which are stored."""
    for n in range(2):
        world.deliver("jobs.submit", "one", nonsense=n)

    assert not is_handled(world)
    assert len(world.rejections()) == 2


@pytest.mark.parametrize("reason", ["wrong_queue", "wrong_deployment"])
def test_a_message_that_came_by_a_wrong_way_may_still_come_by_the_right_one(
    world: World, reason: str
) -> None:
    """Whoever may push to another queue alone must not suppress what comes through the crawlers'."""
    crawler = world.crawler()

    rejection.keep(task="crawler.frames", payload="x", reason=reason, message_id="one")
    world.sends(crawler.frame("job_request", capacity=1), message="one")

    assert crawler.row().capacity == 1


def test_a_message_one_of_whose_items_is_too_large_is_not_handled_by_that(world: World) -> None:
    """The item is kept first, and then the others are applied."""
    crawler, (order,) = world.crawler_with_jobs()
    frames = [crawler.frame("job_failed", order, error="x" * MAX_ITEM_BYTES)]
    rejection.keep(task="crawler.frames", payload="x", reason="too_large", message_id="one", is_whole=False)
    assert not is_handled(world)

    body = Body(json.dumps([[], {"frames": [*frames, crawler.frame("job_completed", order)]}, {}]).encode())
    world.app.tasks["crawler.frames"].apply(args=[body], task_id="one", throw=True)

    assert is_handled(world)
    assert [status for (status,) in world.rows("SELECT status FROM job")] == ["finished"]


@pytest.mark.parametrize("said", ["capacity", "active_jobs"])
def test_a_heartbeat_that_comes_again_does_not_replace_a_later_one(world: World, said: str) -> None:
    """Its message was delivered twice: a drain that was said in between stays."""
    crawler = world.crawler()
    beats = [{"capacity": 5, "active_jobs": ["a"]}, {"capacity": 0, "active_jobs": ["b"]}]
    for message in (0, 1, 0):
        beat = {"connection_id": crawler.id, said: beats[message][said]}
        world.deliver("connections.heartbeat", str(message), beats=[beat])

    found = {"capacity": crawler.row().capacity, "active_jobs": crawler.row().reported_jobs}
    assert found[said] == beats[1][said]


def test_a_heartbeat_of_life_alone_leaves_no_id(world: World) -> None:
    """There are too many of them, and one that comes again does no harm."""
    crawler = world.crawler()

    world.deliver(
        "connections.heartbeat", "one", beats=[{"connection_id": crawler.id, "system_status": "idle"}]
    )

    assert not is_handled(world)


def test_a_greater_capacity_asks_for_a_round(world: World) -> None:
    """The crawler would wait for the next one otherwise."""
    crawler = world.crawler(capacity=1)
    world.published.messages.clear()

    for n, capacity in enumerate((1, 0, 2)):
        beat = {"connection_id": crawler.id, "capacity": capacity}
        world.deliver("connections.heartbeat", str(n), beats=[beat])

    assert world.published.messages == [("jobs.assign", {})]
