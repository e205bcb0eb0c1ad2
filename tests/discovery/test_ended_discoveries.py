"""Cancelling or pausing a discovery while its findings are being applied includes all of its children."""

from collections.abc import Callable
from typing import Any

import pytest

from support.worlds.discoveries import PROJECT_COMMANDS, Discoverer, group, project
from support.worlds.world import World
from tasks.jobs import cancel, pause

LOCKS: dict[str, Any] = {"cancel": cancel, "pause": pause}
"""The module whose `lock_jobs` locks the selected jobs, by command."""


def before_the_locks(monkeypatch: pytest.MonkeyPatch, verb: str, *actions: Callable[[], None]) -> None:
    """Run each of these in turn when a unit has selected its jobs but not yet locked them."""
    left = list(actions)
    lock_jobs = LOCKS[verb].lock_jobs

    def lock_later(*arguments: Any) -> Any:
        if left:
            left.pop(0)()
        return lock_jobs(*arguments)

    monkeypatch.setattr(LOCKS[verb], "lock_jobs", lock_later)


def statuses(world: World) -> list[tuple[str, int]]:
    """The number of jobs by status."""
    return [tuple(row) for row in world.rows("SELECT status, count(*) FROM job GROUP BY 1 ORDER BY 1")]


@pytest.mark.parametrize(
    ("verb", "kind", "status"),
    [
        ("cancel", "subtree_of", "cancelled"),
        ("cancel", "area", "cancelled"),
        ("cancel", "account_id", "cancelled"),
        ("pause", "subtree_of", "paused"),
        ("pause", "area", "paused"),
    ],
)
def test_children_added_between_read_and_lock_are_included(
    world: World, monkeypatch: pytest.MonkeyPatch, *, verb: str, kind: str, status: str
) -> None:
    """The command selects again after a discovery committed in between, and announces each job once."""
    discoverer = Discoverer.at_work(world)
    world.rows("UPDATE job SET full_path = 'team'")
    selected = {"subtree_of": discoverer.job_id, "area": "team", "account_id": "acc"}[kind]
    before_the_locks(monkeypatch, verb, lambda: discoverer.finds(project("team/a", 1)))

    world.deliver(f"jobs.{verb}", **{kind: selected})

    assert statuses(world) == [(status, 1 + len(PROJECT_COMMANDS))]
    announced = [e.job_id for e in world.events("job_updated") if e.payload == {"status": status}]
    assert len(announced) == len(set(announced)) == 1 + len(PROJECT_COMMANDS)
    world.assign()
    assert world.rows("SELECT 1 FROM crawler_order") == []


def test_children_deferred_meanwhile_are_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise they would be queued later, in spite of the cancellation."""
    monkeypatch.setenv("CRAWLYARD_PENDING_CAP", "2")
    world.reload_settings()
    discoverer = Discoverer.at_work(world)
    before_the_locks(monkeypatch, "cancel", lambda: discoverer.finds(project("a", 1)))

    world.deliver("jobs.cancel", subtree_of=discoverer.job_id)

    assert statuses(world) == [("cancelled", 3)]
    assert world.rows("SELECT 1 FROM deferred_job") == []


@pytest.mark.parametrize(("verb", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_discovering_children_are_ended_with_their_own_children(
    world: World, monkeypatch: pytest.MonkeyPatch, verb: str, status: str
) -> None:
    """A child that was missed is assigned to the freed slot and finds more while the command selects again."""
    discoverer = Discoverer.at_work(world)

    def finds_a_namespace() -> None:
        discoverer.finds(group("team", 7, job_type="discover_namespaces"))

    def is_assigned_and_finds_more() -> None:
        world.assign()
        (order,) = discoverer.crawler.orders()
        Discoverer(world, discoverer.crawler, order, "").finds(project("team/a", 1))

    before_the_locks(monkeypatch, verb, finds_a_namespace, is_assigned_and_finds_more)

    world.deliver(f"jobs.{verb}", subtree_of=discoverer.job_id)

    assert statuses(world) == [(status, 2 + len(PROJECT_COMMANDS))]
    assert discoverer.crawler.orders() == discoverer.crawler.row().active_jobs == []


def test_a_cancel_ends_although_new_jobs_keep_coming(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes five passes; jobs that are added after that stay queued."""

    def orders_one() -> None:
        world.jobs(1)

    orders_one()
    before_the_locks(monkeypatch, "cancel", *[orders_one] * 9)

    world.deliver("jobs.cancel", account_id="acc")

    assert statuses(world) == [("cancelled", 5), ("queued", 1)]
    assert world.scalar("SELECT count(*) FROM handled_message") == 7  # six orders, and the cancel
